// SPDX-License-Identifier: BSD-3-Clause
// Items of a source that lie at regular distances, read into a box in memory where they lie at other ones. In
// the source they are visited in its order, few bytes are read twice, and a few megabytes exist at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/strided_copy.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

/// Fills the box at `out` with items of `item` bytes. `start`: byte of the source where the first one lies.
/// Precondition: no axis has a count of 0. Errors: those of the source.
Status read_strided(const ByteSource& source, std::size_t item, std::vector<CopyAxis> axes,
                    std::uint64_t start, std::byte* out);

}  // namespace ckpt
