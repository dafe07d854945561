// SPDX-License-Identifier: BSD-3-Clause
#include "modules/cuda/plan_gather.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace ckpt::cuda {
namespace {

constexpr std::uint64_t kVector = 16;                           // bytes that a thread reads or writes at once
constexpr std::uint64_t kMost = (std::uint64_t{1} << 31U) - 1;  // steps of a launch
constexpr std::uint64_t kShortest = 8;  // sides of a matrix below which turning it in squares does not pay

struct Axis {
  std::uint64_t count;
  std::uint64_t from;
  std::uint64_t to;
};

using Axes = std::vector<Axis>;  // the fastest of the target first

/// Neighbours that step through source and target alike are one dimension.
Axes axes_of(const CkptGather& gather) {
  Axes axes;
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    if (gather.sizes[i] != 1) axes.push_back({gather.sizes[i], gather.from[i], gather.to[i]});
  }
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.to < b.to; });
  for (std::size_t i = 1; i < axes.size();) {
    auto& inner = axes[i - 1];
    if (axes[i].from == inner.from * inner.count && axes[i].to == inner.to * inner.count) {
      inner.count *= axes[i].count;
      axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  return axes;
}

std::uint64_t steps_of(const Axes& axes) {
  return std::accumulate(axes.begin(), axes.end(), std::uint64_t{1},
                         [](std::uint64_t product, const Axis& axis) { return product * axis.count; });
}

Walk walk_of(const Axes& axes) {
  Walk walk;
  walk.count = static_cast<std::uint32_t>(steps_of(axes));
  for (const auto& axis : axes) {
    walk.sizes[walk.rank] = Divider(static_cast<std::uint32_t>(axis.count));
    walk.from[walk.rank] = axis.from;
    walk.to[walk.rank] = axis.to;
    ++walk.rank;
  }
  return walk;
}

std::uint64_t address_of(const std::byte* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

class Planner {
 public:
  Planner(const CkptGather& gather, const std::byte* source, std::byte* target)
      : elements_{source, target, gather.source_dtype, gather.target_dtype,
                  gather.swap > 1 ? gather.swap : 0},
        from_size_(element_size(gather.source_dtype)),
        to_size_(element_size(gather.target_dtype)) {}

  std::vector<Launch> plan(Axes axes) {
    if (steps_of(axes) != 0) divide(std::move(axes), elements_);
    return std::move(launches_);
  }

 private:
  bool only_moves() const { return elements_.source_dtype == elements_.target_dtype && elements_.swap == 0; }

  /// Pieces of fewer than 2^31 steps, cut along the slowest dimensions.
  void divide(Axes axes, const Elements& elements) {
    const bool is_copy =
        only_moves() && axes.size() <= 1 && (axes.empty() || (axes[0].from == 1 && axes[0].to == 1));
    if (is_copy) {
      launches_.emplace_back(CopyLaunch{elements.source, elements.target, steps_of(axes) * to_size_});
      return;
    }
    if (steps_of(axes) <= kMost) return choose(std::move(axes), elements);
    const auto slowest = axes.back();
    const auto inner = steps_of(axes) / slowest.count;
    // A multiple of what a group may need, so that pieces begin where vectors do.
    const auto most = std::max<std::uint64_t>(1, kMost / inner / kVector * kVector);
    for (std::uint64_t done = 0; done < slowest.count; done += most) {
      auto piece = elements;
      piece.source += done * slowest.from * from_size_;
      piece.target += done * slowest.to * to_size_;
      axes.back().count = std::min(most, slowest.count - done);
      auto rest = axes;
      if (rest.back().count == 1) rest.pop_back();
      divide(std::move(rest), piece);
    }
  }

  void choose(Axes axes, const Elements& elements) {
    if (axes.empty() || axes[0].to != 1 || axes[0].from == 1) return in_groups(std::move(axes), elements);
    const auto across =
        std::find_if(axes.begin() + 1, axes.end(), [](const Axis& axis) { return axis.from == 1; });
    if (across == axes.end() || across->count < kShortest || axes[0].count < kShortest)
      return in_groups(std::move(axes), elements);
    turn(std::move(axes), static_cast<std::size_t>(across - axes.begin()), elements);
  }

  /// Elements that lie side by side on both sides, as many at once as alignment allows.
  void in_groups(Axes axes, Elements elements) {
    const bool side_by_side = !axes.empty() && axes[0].to == 1 && axes[0].from == 1;
    if (only_moves()) return in_items(std::move(axes), elements);
    const auto group = kVector / std::min(from_size_, to_size_);
    const bool divides = side_by_side && axes.size() > 1 ? axes[0].count % group == 0 : side_by_side;
    if (!divides || !is_aligned(axes, elements, group)) {
      launches_.emplace_back(GroupLaunch{elements, walk_of(axes), 1});
      return;
    }
    const auto rest = axes[0].count % group;  // of a single dimension alone
    const auto whole = axes[0].count - rest;
    if (rest != 0) {
      auto tail = elements;
      tail.source += whole * from_size_;
      tail.target += whole * to_size_;
      launches_.emplace_back(GroupLaunch{tail, walk_of({{rest, 1, 1}}), 1});
    }
    if (whole == 0) return;
    axes[0] = {whole / group, group, group};
    launches_.emplace_back(GroupLaunch{elements, walk_of(axes), static_cast<std::uint32_t>(group)});
  }

  bool is_aligned(const Axes& axes, const Elements& elements, std::uint64_t group) const {
    const auto fits = [&](std::uint64_t from, std::uint64_t to) {
      return from % std::min(kVector, group * from_size_) == 0 &&
             to % std::min(kVector, group * to_size_) == 0;
    };
    return fits(address_of(elements.source), address_of(elements.target)) &&
           std::all_of(axes.begin() + 1, axes.end(),
                       [&](const Axis& axis) { return fits(axis.from * from_size_, axis.to * to_size_); });
  }

  /// Without a change, elements side by side are one larger element.
  void in_items(Axes axes, Elements elements) {
    std::uint64_t item = to_size_;
    if (!axes.empty() && axes[0].to == 1 && axes[0].from == 1) {
      std::uint64_t divisor = kVector;
      const auto limit = [&divisor](std::uint64_t number) { divisor = std::gcd(divisor, number); };
      limit(address_of(elements.source));
      limit(address_of(elements.target));
      limit(axes[0].count * item);
      for (auto axis = axes.begin() + 1; axis != axes.end(); ++axis) {
        limit(axis->from * item);
        limit(axis->to * item);
      }
      const auto merged = divisor / item;
      axes[0].count /= merged;
      for (auto axis = axes.begin() + 1; axis != axes.end(); ++axis) {
        axis->from /= merged;
        axis->to /= merged;
      }
      item = divisor;
    }
    elements.source_dtype = elements.target_dtype = CKPT_OPAQUE_1 - 1 + static_cast<std::int32_t>(item);
    launches_.emplace_back(GroupLaunch{elements, walk_of(axes), 1});
  }

  void turn(Axes axes, std::size_t across_at, Elements elements) {
    TurnLaunch launch;
    const auto across = axes[across_at];
    const auto down = axes[0];
    axes.erase(axes.begin() + static_cast<std::ptrdiff_t>(across_at));
    axes.erase(axes.begin());
    if (only_moves()) {
      elements.source_dtype = elements.target_dtype = CKPT_OPAQUE_1 - 1 + static_cast<std::int32_t>(to_size_);
      launch.packed = packing(axes, across, down, elements);
    }
    launch.elements = elements;
    launch.walk = walk_of(axes);
    launch.across = across.count;
    launch.down = down.count;
    launch.from_step = down.from;
    launch.to_step = across.to;
    launch.side = 32 * launch.packed;
    const auto squares = [&](std::uint64_t count) {
      return Divider(static_cast<std::uint32_t>((count + launch.side - 1) / launch.side));
    };
    launch.squares_across = squares(across.count);
    launch.squares_down = squares(down.count);
    launch.blocks = launch.squares_across.divisor * launch.squares_down.divisor * launch.walk.count;
    launches_.emplace_back(launch);
  }

  /// Small elements that a thread can move four bytes at a time.
  std::uint32_t packing(const Axes& others, const Axis& across, const Axis& down,
                        const Elements& elements) const {
    constexpr std::uint64_t kWord = 4;
    if (to_size_ >= kWord) return 1;
    std::uint64_t all = kWord;
    const auto limit = [&](std::uint64_t number) { all = std::gcd(all, number); };
    limit(address_of(elements.source));
    limit(address_of(elements.target));
    limit(across.to * to_size_);
    limit(down.from * to_size_);
    for (const auto& axis : others) {
      limit(axis.from * to_size_);
      limit(axis.to * to_size_);
    }
    return all == kWord ? static_cast<std::uint32_t>(kWord / to_size_) : 1;
  }

  Elements elements_;
  std::uint64_t from_size_;
  std::uint64_t to_size_;
  std::vector<Launch> launches_;
};

Status check(const CkptGather& gather) {
  if (gather.rank > CKPT_MAX_RANK)
    return Error(ErrorCode::kUnsupported, "a view of more than eight dimensions");
  const auto from = element_size(gather.source_dtype);
  const bool converts = gather.source_dtype != gather.target_dtype;
  if (from == 0 || (converts && !(is_number(gather.source_dtype) && is_number(gather.target_dtype))))
    return Error(ErrorCode::kUnsupported, "a conversion between dtypes that no kernel has");
  if (gather.swap > 8 || (gather.swap > 1 && gather.swap != from && (gather.swap * 2 != from || converts)))
    return Error(ErrorCode::kUnsupported, "an order of bytes that no kernel has");
  return {};
}

}  // namespace

Result<Place> reach_of(const CkptGather& gather) {
  CKPT_RETURN_IF_ERROR(check(gather));
  Place last;
  std::uint64_t steps = 1;
  for (std::uint32_t i = 0; i < gather.rank; ++i) {
    if (gather.sizes[i] == 0) return Place{};
    std::uint64_t from = 0;
    std::uint64_t to = 0;
    if (__builtin_mul_overflow(gather.sizes[i] - 1, gather.from[i], &from) ||
        __builtin_mul_overflow(gather.sizes[i] - 1, gather.to[i], &to) ||
        __builtin_mul_overflow(steps, gather.sizes[i], &steps) ||
        __builtin_add_overflow(last.from, from, &last.from) ||
        __builtin_add_overflow(last.to, to, &last.to) || last.from >> 58U != 0 || last.to >> 58U != 0)
      return Error(ErrorCode::kUnsupported, "a view that is larger than any memory");
  }
  return Place{(last.from + 1) * element_size(gather.source_dtype),
               (last.to + 1) * element_size(gather.target_dtype)};
}

Result<std::vector<Launch>> plan_gather(const CkptGather& gather, const std::byte* source,
                                        std::byte* target) {
  CKPT_RETURN_IF_ERROR(check(gather));
  auto axes = axes_of(gather);
  const bool is_empty =
      std::any_of(axes.begin(), axes.end(), [](const Axis& axis) { return axis.count == 0; });
  if (is_empty) return std::vector<Launch>{};
  return Planner(gather, source, target).plan(std::move(axes));
}

Result<RowsLaunch> plan_rows(const CkptRows& rows, const std::byte* source, std::byte* target,
                             const std::int64_t* table) {
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(rows.rows, rows.row_bytes, &bytes) || bytes >> 63U != 0)
    return Error(ErrorCode::kUnsupported, "rows that are larger than any memory");
  RowsLaunch launch;
  launch.source = source;
  launch.target = target;
  launch.table = table;
  std::uint64_t unit = kVector;
  for (const auto number :
       {address_of(source), address_of(target), rows.row_bytes, rows.source_step, rows.target_step})
    unit = std::gcd(unit, number);
  launch.unit = static_cast<std::uint32_t>(unit);
  launch.units = bytes / unit;
  launch.row_units = rows.row_bytes / unit;
  launch.source_step = rows.source_step / unit;
  launch.target_step = rows.target_step / unit;
  return launch;
}

}  // namespace ckpt::cuda
