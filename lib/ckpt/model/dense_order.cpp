// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/dense_order.h"

#include <algorithm>
#include <numeric>

namespace ckpt {

std::optional<std::vector<std::size_t>> dense_order(std::span<const std::int64_t> shape,
                                                    std::span<const std::int64_t> strides) {
  std::vector<std::size_t> order(shape.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (strides.empty()) return order;
  // Dimensions of size 1 have any stride and matter nowhere.
  const auto counted =
      std::stable_partition(order.begin(), order.end(), [&](std::size_t axis) { return shape[axis] != 1; });
  std::stable_sort(order.begin(), counted,
                   [&](std::size_t a, std::size_t b) { return strides[a] > strides[b]; });
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> steps;
  for (const auto axis : order) {
    sizes.push_back(shape[axis]);
    steps.push_back(strides[axis]);
  }
  if (!is_c_order(sizes, steps)) return std::nullopt;
  return order;
}

bool is_c_order(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return true;
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;
    if (strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

}  // namespace ckpt
