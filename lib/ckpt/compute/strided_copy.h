// SPDX-License-Identifier: BSD-3-Clause
// Items of memory that lie at regular distances, copied to where they lie at other ones.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ckpt {

/// One dimension of a copy.
struct CopyAxis {
  std::uint64_t count;
  std::uint64_t from;  ///< stride in the source, items
  std::uint64_t to;    ///< stride in the target, items
};

/// Copies items of `item` bytes (1, 2, 4, 8 or 16) along two dimensions. A transposition goes by squares of
/// cache lines.
void copy_strided(std::size_t item, const std::byte* from, std::byte* to, const CopyAxis& inner,
                  const CopyAxis& outer);

}  // namespace ckpt
