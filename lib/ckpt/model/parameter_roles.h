// SPDX-License-Identifier: BSD-3-Clause
// Parameter, buffer or unknown, and what says so.
#pragma once

#include <cstdint>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

enum class RoleKind : std::uint8_t { kParameter, kBuffer, kUnknown, kOptimizer, kOther };
/// What the file says, from strong to weak.
enum class RoleEvidence : std::uint8_t {
  kModule,  ///< it lies among a module's parameters or buffers
  kObject,  ///< it is an nn.Parameter, or requires a gradient
  kDtype,   ///< integers and booleans can't be trained
  kName,    ///< names that PyTorch's own layers give
  kPlace,   ///< it lies in an optimizer's state, or in no state dict
  kNothing,
};

struct TensorRole {
  RoleKind kind = RoleKind::kUnknown;
  RoleEvidence evidence = RoleEvidence::kNothing;
};

CKPT_EXPORT std::string_view role_name(RoleKind kind);
CKPT_EXPORT std::string_view evidence_name(RoleEvidence evidence);
CKPT_EXPORT TensorRole role_of(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Which part of a training run a tensor belongs to.
enum class Section : std::uint8_t { kModel, kOptimizer, kEma, kOther };
CKPT_EXPORT std::string_view section_name(Section section);
/// From the names on its path: below `state` and `param_groups` an optimizer's; below a name with "ema" an
/// average's; in any other state dict the model's.
CKPT_EXPORT Section section_of(const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace ckpt
