// SPDX-License-Identifier: BSD-3-Clause
// What `convert` changed besides keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/edit/cast_report.h"
#include "ckpt/model/tensor_info.h"

namespace ckpt {

/// Tensors that got storages of their own.
struct CompactReport {
  std::uint64_t tensors = 0;
  std::uint64_t bytes_before = 0;  ///< of all storages in use
  std::uint64_t bytes_after = 0;
};

/// Storages that were found to be equal and are one now.
struct SameStorages {
  std::vector<std::string> tensors;  ///< for each the path of the first tensor that viewed it
  std::uint64_t bytes = 0;           ///< of one
  TensorId order = kNoIndex;         ///< the row of the first
};

/// A value that the restricted loader refuses, and what became of it.
struct RefusedValue {
  std::string path;
  std::string global;  ///< "numpy.core.multiarray.scalar"
  std::string became;  ///< "float", "tensor", "dict"; empty: it is gone
};

struct ConversionReport {
  std::vector<RefusedValue> refused;
  bool respelled = false;             ///< the pickle is in opcodes that the restricted loader knows
  std::uint64_t devices_changed = 0;  ///< storages, and tensors that a call makes
  std::optional<CastReport> cast;
  std::optional<CompactReport> compacted;
  std::vector<SameStorages> deduped;

  bool changes_nothing() const {
    return refused.empty() && !respelled && devices_changed == 0 && (!cast || cast->casts.empty()) &&
           (!compacted || compacted->tensors == 0) && deduped.empty();
  }
};

}  // namespace ckpt
