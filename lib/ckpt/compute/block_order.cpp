// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/block_order.h"

#include <algorithm>
#include <cstring>

namespace ckpt {

BlockOrder::BlockOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> order) {
  std::vector<std::uint64_t> strides(shape.size(), 1);
  for (auto axis = shape.size(); axis-- > 1;)
    strides[axis - 1] = strides[axis] * static_cast<std::uint64_t>(shape[axis]);
  std::vector<std::size_t> counted;  // dimensions of size 1 matter nowhere
  std::copy_if(order.begin(), order.end(), std::back_inserter(counted),
               [&](std::size_t axis) { return shape[axis] != 1; });
  auto sorted = counted;
  std::sort(sorted.begin(), sorted.end());
  const auto shared = std::mismatch(counted.begin(), counted.end(), sorted.begin()).first;
  for (auto axis = counted.end(); axis != shared;) {
    --axis;
    axes_.push_back({static_cast<std::uint64_t>(shape[*axis]), strides[*axis]});
    size_ *= axes_.back().count;
  }
}

template <std::size_t kItem>
void BlockOrder::arrange_items(const std::byte* values, std::uint64_t first, std::uint64_t count,
                               std::byte* out) const {
  const Axis inner = axes_.empty() ? Axis{1, 1} : axes_.front();
  while (count > 0) {
    const auto place = first % inner.count;
    auto rest = first / inner.count;
    auto from = place * inner.from;
    for (std::size_t i = 1; i < axes_.size(); ++i) {
      from += rest % axes_[i].count * axes_[i].from;
      rest /= axes_[i].count;
    }
    from += rest * size_;
    const auto run = std::min(inner.count - place, count);
    const auto* source = values + from * kItem;
    for (std::uint64_t i = 0; i < run; ++i) {
      std::memcpy(out, source, kItem);
      source += inner.from * kItem;
      out += kItem;
    }
    first += run;
    count -= run;
  }
}

void BlockOrder::arrange(std::size_t item, const std::byte* values, std::uint64_t first, std::uint64_t count,
                         std::byte* out) const {
  switch (item) {
    case 1: return arrange_items<1>(values, first, count, out);
    case 2: return arrange_items<2>(values, first, count, out);
    case 4: return arrange_items<4>(values, first, count, out);
    case 8: return arrange_items<8>(values, first, count, out);
    default: return arrange_items<16>(values, first, count, out);
  }
}

}  // namespace ckpt
