// SPDX-License-Identifier: BSD-3-Clause
// Strides of tensors that fill their memory without gaps, in whatever order of dimensions: C order,
// transposed, channels last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// The dimensions from the slowest to the fastest, if a tensor of `shape` (all sizes at least 0) with
/// `strides` (elements; empty: C order) covers shape's product of elements from its first on, each once.
CKPT_EXPORT std::optional<std::vector<std::size_t>> dense_order(std::span<const std::int64_t> shape,
                                                                std::span<const std::int64_t> strides);

/// Are the strides those of C order? Dimensions of size 1 may have any; so may all of an empty tensor.
CKPT_EXPORT bool is_c_order(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides);

}  // namespace ckpt
