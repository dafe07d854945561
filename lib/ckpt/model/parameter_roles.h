// SPDX-License-Identifier: BSD-3-Clause
// Parameter, buffer or unknown, and what says so.
#pragma once

#include <cstdint>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

CKPT_EXPORT std::string_view role_name(RoleKind kind);
CKPT_EXPORT std::string_view evidence_name(RoleEvidence evidence);
/// Does a norm layer keep its statistics under that name?
bool is_running_statistic(std::string_view leaf);
/// From the tensor itself, its key, and what `note_roles` (role_evidence.h) wrote down, if that was asked.
CKPT_EXPORT TensorRole role_of(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Which part of a training run a tensor belongs to.
enum class Section : std::uint8_t { kModel, kOptimizer, kEma, kOther };
CKPT_EXPORT std::string_view section_name(Section section);
/// From the names on its path: below `state` and `param_groups` an optimizer's; below a name with "ema" an
/// average's; in any other state dict the model's.
CKPT_EXPORT Section section_of(const Checkpoint& checkpoint, const TensorInfo& tensor);

}  // namespace ckpt
