// SPDX-License-Identifier: BSD-3-Clause
// Tensors whose dimensions lie in another order than C order, element by element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ckpt/base/bytes.h"

namespace ckpt::test {

using Shape = std::vector<std::int64_t>;
using Order = std::vector<std::size_t>;  ///< dimensions from the slowest to the fastest

inline std::size_t product(const Shape& shape) {
  std::size_t out = 1;
  for (const auto size : shape) out *= static_cast<std::size_t>(size);
  return out;
}

/// The dimensions as they lie in the order.
inline Shape in_order(const Shape& shape, const Order& order) {
  Shape out;
  for (const auto axis : order) out.push_back(shape[axis]);
  return out;
}

/// `values` of `item` bytes, in C order, as they lie in the order.
inline Bytes in_order(const Shape& shape, const Order& order, std::size_t item, const Bytes& values) {
  Bytes out;
  Shape index(shape.size());
  for (std::size_t done = 0; done < product(shape); ++done) {
    std::size_t place = 0;
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      place = place * static_cast<std::size_t>(shape[axis]) + static_cast<std::size_t>(index[axis]);
    out.insert(out.end(), values.begin() + static_cast<std::ptrdiff_t>(place * item),
               values.begin() + static_cast<std::ptrdiff_t>((place + 1) * item));
    for (auto i = order.size(); i-- > 0 && ++index[order[i]] == shape[order[i]];) index[order[i]] = 0;
  }
  return out;
}

}  // namespace ckpt::test
