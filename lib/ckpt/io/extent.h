// SPDX-License-Identifier: BSD-3-Clause
// A half-open range of bytes of one file. Offset and size travel together, never as two loose integers.
#pragma once

#include <cstdint>

namespace ckpt {

struct Extent {
  std::uint64_t offset = 0;  ///< bytes from the start of the file
  std::uint64_t size = 0;    ///< bytes

  std::uint64_t end() const { return offset + size; }

  friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace ckpt
