// SPDX-License-Identifier: BSD-3-Clause
// What a fine-tune changed: each tensor of a state dict beside the one of the same key in another file, equal
// to the last bit or not, and how far from it. Bytes are streamed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/differences.h"
#include "ckpt/inspect/freeze.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

enum class BaseVerdict : std::uint8_t {
  kEqual,  ///< bit for bit
  kChanged,
  kOtherShape,
  kOtherDtype,
  kNotInBase,
  kNotCompared,  ///< quantised tensors, subclasses, no data, or views that no two files lay out alike
};

/// "equal", "changed", "other-shape", "other-dtype", "not-in-base", "not-compared".
CKPT_EXPORT std::string_view verdict_name(BaseVerdict verdict);

struct BaseComparison {
  std::string root;                       ///< path of the base's state dict
  std::vector<BaseVerdict> verdicts;      ///< by entry of the report
  std::vector<std::string_view> reasons;  ///< by entry: what it is or has that is not compared, or nothing
  /// By entry, of tensors that are equal or changed and have numbers; nothing for others.
  std::vector<std::optional<Differences>> differences;
  std::vector<Differences> groups;  ///< by group of the report: its parameters, each once
  Differences total;                ///< of all parameters
  std::vector<std::string_view> only_in_base;
};

/// The state dict of `base` that belongs to the one at `root`: `base_root`, the one at the same path, or the
/// only one. Errors: kNotFound; kUsage where there are several, naming them.
CKPT_EXPORT Result<std::uint32_t> choose_base(Checkpoint& base, std::string_view root,
                                              const std::optional<std::string>& base_root);

/// By `threads` threads, one a processor if 0; the result is the same from any number. `progress` may be
/// null. Errors: kNotFound if they have no key in common; kUnsupported for compressed records; kCorrupt, kIo.
CKPT_EXPORT Result<BaseComparison> compare_with_base(const Checkpoint& checkpoint, const FreezeReport& report,
                                                     const Checkpoint& base, std::uint32_t base_dict,
                                                     std::size_t threads, Progress* progress);

}  // namespace ckpt
