// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/block_order.h"

#include <algorithm>
#include <cstring>

namespace ckpt {
namespace {

template <std::size_t kItem, typename Axis>
void arrange_items(std::span<const Axis> axes, const std::byte* values, std::uint64_t first,
                   std::uint64_t count, std::byte* out) {
  const Axis inner = axes.empty() ? Axis{1, 1} : axes.front();
  std::uint64_t size = 1;
  for (const auto& axis : axes) size *= axis.count;
  while (count > 0) {
    const auto place = first % inner.count;
    auto rest = first / inner.count;
    auto from = place * inner.from;
    for (std::size_t i = 1; i < axes.size(); ++i) {
      from += rest % axes[i].count * axes[i].from;
      rest /= axes[i].count;
    }
    from += rest * size;
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

}  // namespace

BlockOrder::BlockOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> order,
                       std::uint64_t most) {
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
  if (axes_.empty()) return;
  const auto is_faster = [](const Axis& a, const Axis& b) { return a.from < b.from; };
  const auto slowest = std::max_element(axes_.begin(), axes_.end(), is_faster);
  slowest_ = static_cast<std::size_t>(slowest - axes_.begin());
  rows_ = std::max<std::uint64_t>(1, slowest->count);
  const auto row_size = std::max<std::uint64_t>(1, size_ / rows_);
  slab_rows_ = std::clamp<std::uint64_t>(most / row_size, 1, rows_);
  for (auto axis = axes_.begin(); axis != slowest; ++axis) inside_ *= axis->count;
}

Slab BlockOrder::slab_at(std::uint64_t element) const {
  Slab out;
  const auto row_size = size_ / rows_;
  out.block = element / size_ * size_;
  out.row = (element - out.block) / row_size / slab_rows_ * slab_rows_;
  out.rows = std::min(slab_rows_, rows_ - out.row);
  out.first = out.block + out.row * row_size;
  out.count = out.rows * row_size;
  return out;
}

Extent BlockOrder::slab_place(const Slab& slab, std::uint64_t element) const {
  const auto run = inside_ * slab.rows;
  const auto in_run = element % run;
  return {slab.block + element / run * inside_ * rows_ + inside_ * slab.row + in_run, run - in_run};
}

void BlockOrder::arrange(std::size_t item, const std::byte* values, std::uint64_t first, std::uint64_t count,
                         std::byte* out) const {
  arrange_axes(item, axes_, values, first, count, out);
}

void BlockOrder::arrange_slab(std::size_t item, const Slab& slab, const std::byte* values,
                              std::uint64_t first, std::uint64_t count, std::byte* out) const {
  auto axes = axes_;
  axes[slowest_].count = slab.rows;
  arrange_axes(item, axes, values, first, count, out);
}

void BlockOrder::arrange_axes(std::size_t item, std::span<const Axis> axes, const std::byte* values,
                              std::uint64_t first, std::uint64_t count, std::byte* out) {
  switch (item) {
    case 1: return arrange_items<1>(axes, values, first, count, out);
    case 2: return arrange_items<2>(axes, values, first, count, out);
    case 4: return arrange_items<4>(axes, values, first, count, out);
    case 8: return arrange_items<8>(axes, values, first, count, out);
    default: return arrange_items<16>(axes, values, first, count, out);
  }
}

}  // namespace ckpt
