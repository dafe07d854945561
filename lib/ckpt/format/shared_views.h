// SPDX-License-Identifier: BSD-3-Clause
// Tensors of a state dict that lie in the same bytes of a storage: one view under several names, or views
// that reach into each other. The rule is that of safetensors.torch (`_find_shared_tensors`): what counts are
// the ranges of bytes from a view's first element to its last.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "ckpt/format/state_dict_content.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

struct SharedViews {
  /// Indices of rows that are one view: same storage, offset, shape, strides and dtype. The smallest name
  /// comes first.
  std::vector<std::vector<std::size_t>> ties;
  std::vector<std::pair<std::size_t, std::size_t>>
      overlaps;  ///< two rows that share bytes and are no ties, in order
};

/// Tensors without elements share nothing.
SharedViews find_shared_views(const Checkpoint& checkpoint, std::span<const NamedRow> rows);

}  // namespace ckpt
