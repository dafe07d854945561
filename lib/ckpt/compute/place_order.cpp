// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/place_order.h"

#include <algorithm>

namespace ckpt {

PlaceOrder::PlaceOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> axes) {
  std::vector<std::size_t> at(axes.size());  // by dimension of the tensor
  for (std::size_t i = 0; i < axes.size(); ++i) at[axes[i]] = i;
  std::vector<std::uint64_t> steps(axes.size());
  std::uint64_t step = 1;
  for (std::size_t axis = axes.size(); axis-- > 0;) {
    steps[at[axis]] = step;
    step *= static_cast<std::uint64_t>(shape[at[axis]]);
  }
  for (std::size_t i = shape.size(); i-- > 0;) {
    const auto size = static_cast<std::uint64_t>(shape[i]);
    if (size == 1) continue;
    if (!axes_.empty() && steps[i] == axes_.back().size * axes_.back().step) {
      axes_.back().size *= size;
    } else {
      axes_.push_back({size, steps[i]});
    }
  }
  if (axes_.size() == 1 && axes_[0].step == 1) axes_.clear();
}

PlaceRun PlaceOrder::run_at(std::uint64_t first, std::uint64_t most) const {
  if (axes_.empty()) return {first, 1, most};
  PlaceRun run{0, axes_[0].step, std::min(most, axes_[0].size - first % axes_[0].size)};
  for (const auto& axis : axes_) {
    run.place += first % axis.size * axis.step;
    first /= axis.size;
  }
  return run;
}

}  // namespace ckpt
