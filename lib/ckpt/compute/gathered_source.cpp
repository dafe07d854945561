// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/gathered_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <span>
#include <unordered_set>
#include <utility>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/device_gather.h"
#include "ckpt/compute/strided_read.h"
#include "ckpt/compute/workers.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

// Values of a box. Enough that a column of a large matrix is read in stretches of some hundred bytes and
// more.
constexpr std::uint64_t kBox = std::uint64_t{8} << 20U;

// Values that lie in order are taken in pieces that stay in a near cache.
constexpr std::uint64_t kDenseBox = std::uint64_t{256} << 10U;

// So short a read that does not go on from the one before is a sample, and not worth a box.
constexpr std::uint64_t kShortRead = 1024;

// A read of so many bytes goes to the source itself where values lie there as they are wanted.
constexpr std::uint64_t kDirectRead = 512;

/// How a result is cut: all of its inner dimensions that fit into a box, and some steps of the next.
struct Boxes {
  explicit Boxes(const Gather& gather) : Boxes(gather, most_of(gather)) {}

  Boxes(const Gather& gather, std::uint64_t most) : behind(gather.shape.size()) {
    while (behind > 0 && inner * static_cast<std::uint64_t>(gather.shape[behind - 1]) <= most)
      inner *= static_cast<std::uint64_t>(gather.shape[--behind]);
    steps = std::max<std::uint64_t>(1, most / inner);
    if (behind > 0) size = static_cast<std::uint64_t>(gather.shape[behind - 1]);
  }

  /// Elements of a box.
  static std::uint64_t most_of(const Gather& gather) {
    const auto item = std::max(dtype_info(gather.to).item_size, dtype_info(gather.from).item_size);
    return (is_c_order(gather.shape, gather.strides) ? kDenseBox : kBox) / item;
  }

  std::size_t behind;       ///< the dimension that is cut
  std::uint64_t inner = 1;  ///< elements of the dimensions that are whole
  std::uint64_t size = 1;   ///< of the dimension that is cut
  std::uint64_t steps = 1;  ///< of it in a box
};

}  // namespace

std::uint64_t Gather::numel() const {
  return std::accumulate(
      shape.begin(), shape.end(), std::uint64_t{1},
      [](std::uint64_t product, std::int64_t size) { return product * static_cast<std::uint64_t>(size); });
}

Extent GatheredSource::add(Gather gather) {
  const Extent extent{size_, gather.numel() * dtype_info(gather.to).item_size};
  if (extent.size == 0) return extent;
  size_ += extent.size;
  results_.push_back({std::move(gather), extent});
  return extent;
}

Status GatheredSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  const std::lock_guard lock(mutex_);
  while (!out.empty()) {
    CKPT_ASSIGN_OR_RETURN(const auto size, read_some(offset, out));
    out = out.subspan(size);
    offset += size;
  }
  return {};
}

Result<std::uint64_t> GatheredSource::read_some(std::uint64_t offset, std::span<std::byte> out) const {
  bool goes_on = false;
  for (std::size_t i = 0; i < boxes_.size(); ++i) {
    const auto& extent = boxes_[i].extent;
    goes_on = goes_on || offset == extent.end();
    if (offset < extent.offset || offset >= extent.end()) continue;
    last_ = i;
    return copy_from(boxes_[i], offset, out);
  }
  const auto& placed = result_at(offset);
  if (out.size() >= kDirectRead && is_plain(placed.gather)) return read_straight(placed, offset, out);
  if (out.size() <= kShortRead && !goes_on) return read_sample(placed, offset, out);
  last_ = 1 - last_;
  CKPT_RETURN_IF_ERROR(compute(placed, box_at(placed, offset), boxes_[last_]));
  return copy_from(boxes_[last_], offset, out);
}

Result<std::uint64_t> GatheredSource::read_straight(const Placed& placed, std::uint64_t offset,
                                                    std::span<std::byte> out) {
  const auto& gather = placed.gather;
  const auto begin = gather.storage + gather.offset * dtype_info(gather.from).item_size;
  const auto size = std::min<std::uint64_t>(out.size(), placed.extent.end() - offset);
  CKPT_RETURN_IF_ERROR(gather.source->read_at(begin + (offset - placed.extent.offset), out.first(size)));
  return size;
}

Result<std::uint64_t> GatheredSource::read_sample(const Placed& placed, std::uint64_t offset,
                                                  std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(compute(placed, sample_at(placed, offset, out.size()), sample_));
  return copy_from(sample_, offset, out);
}

std::uint64_t GatheredSource::copy_from(const Box& box, std::uint64_t offset, std::span<std::byte> out) {
  const auto size = std::min<std::uint64_t>(out.size(), box.extent.end() - offset);
  std::memcpy(out.data(), box.values.data() + (offset - box.extent.offset), size);
  return size;
}

/// One call of `produce`.
class GatheredSource::Work {
 public:
  Work(const GatheredSource& source, std::span<const Extent> pieces, const ComputeOptions& options,
       const Deliver& deliver, const std::function<void()>& report)
      : source_(source), pieces_(pieces), options_(options), deliver_(deliver), report_(report) {}

  Status run() {
    for (const auto& placed : source_.results_) {
      if (placed.gather.watch) placed.gather.watch->begin();
    }
    for (std::size_t piece = 0; piece < pieces_.size(); ++piece) CKPT_RETURN_IF_ERROR(plan(piece));
    if (!sent_.empty()) CKPT_RETURN_IF_ERROR(gather_sent());
    CKPT_RETURN_IF_ERROR(gather_boxes());
    for (const auto& placed : source_.results_) {
      if (placed.gather.watch) CKPT_RETURN_IF_ERROR(placed.gather.watch->verdict());
    }
    return {};
  }

 private:
  /// One box, or what is wanted of it.
  struct Job {
    std::size_t piece;
    Extent extent;
    bool is_repeat;  ///< a piece before has the same
  };

  /// Each result of a piece goes to the GPU as a whole, or box by box to the processors.
  Status plan(std::size_t piece) {
    const auto wanted = pieces_[piece];
    CKPT_RETURN_IF_ERROR(source_.require(wanted));
    for (auto offset = wanted.offset; offset < wanted.end();) {
      const auto& placed = source_.result_at(offset);
      const Extent part{offset, std::min(placed.extent.end(), wanted.end()) - offset};
      if (options_.device != nullptr && part.size == placed.extent.size &&
          suits_device(*options_.device, placed.gather)) {
        sent_.push_back({&placed.gather, piece, offset - wanted.offset, !seen_.insert(offset).second});
      } else {
        add_boxes(piece, placed, part);
      }
      offset = part.end();
    }
    return {};
  }

  void add_boxes(std::size_t piece, const Placed& placed, Extent wanted) {
    bytes_ += wanted.size;
    for (auto offset = wanted.offset; offset < wanted.end();) {
      const auto end = std::min(box_at(placed, offset).end(), wanted.end());
      jobs_.push_back({piece, {offset, end - offset}, !seen_.insert(offset).second});
      offset = end;
    }
  }

  /// What the GPU has no room for is left to the processors.
  Status gather_sent() {
    CKPT_ASSIGN_OR_RETURN(const auto left,
                          gather_on_device(*options_.device, sent_, options_.threads, deliver_, report_));
    for (const auto i : left) {
      const auto offset = pieces_[sent_[i].piece].offset + sent_[i].offset;
      const auto& placed = source_.result_at(offset);
      if (!sent_[i].is_repeat) seen_.erase(offset);
      add_boxes(sent_[i].piece, placed, placed.extent);
    }
    return {};
  }

  Status gather_boxes() {
    Workers workers(worthwhile_threads(options_.threads, bytes_), jobs_.size());
    const auto work = [&](std::size_t index, Box& box) -> Status {
      const auto& [piece, extent, is_repeat] = jobs_[index];
      const auto& placed = source_.result_at(extent.offset);
      CKPT_RETURN_IF_ERROR(
          compute(placed, box_at(placed, extent.offset), box, is_repeat ? Extent{} : extent));
      return deliver_(piece, extent.offset - pieces_[piece].offset,
                      ByteView(box.values).subspan(extent.offset - box.extent.offset, extent.size));
    };
    return workers.run_with<Box>(work, report_);
  }

  const GatheredSource& source_;
  std::span<const Extent> pieces_;
  const ComputeOptions& options_;
  const Deliver& deliver_;
  const std::function<void()>& report_;
  std::vector<Job> jobs_;
  std::vector<DeviceGather> sent_;          ///< to the GPU
  std::unordered_set<std::uint64_t> seen_;  ///< where boxes and whole results begin
  std::uint64_t bytes_ = 0;                 ///< of the jobs
};

Status GatheredSource::produce(std::span<const Extent> pieces, const ComputeOptions& options,
                               const Deliver& deliver, const std::function<void()>& report) const {
  return Work(*this, pieces, options, deliver, report).run();
}

void GatheredSource::add_inputs(Extent wanted, std::vector<SourceStretch>& out) const {
  for (auto offset = wanted.offset; offset < wanted.end();) {
    const auto& [gather, extent] = result_at(offset);
    const auto item = dtype_info(gather.from).item_size;
    out.push_back(
        {gather.source.get(), {gather.storage + gather.offset * item, device_reach(gather) * item}});
    offset = extent.end();
  }
}

bool GatheredSource::has_verdict() const {
  return std::any_of(results_.begin(), results_.end(),
                     [](const Placed& placed) { return placed.gather.watch != nullptr; });
}

const GatheredSource::Placed& GatheredSource::result_at(std::uint64_t offset) const {
  const auto behind = std::upper_bound(
      results_.begin(), results_.end(), offset,
      [](std::uint64_t wanted, const Placed& placed) { return wanted < placed.extent.offset; });
  return *std::prev(behind);
}

/// The box of `placed` that holds `offset`, in this source.
Extent GatheredSource::box_at(const Placed& placed, std::uint64_t offset) {
  const auto item = dtype_info(placed.gather.to).item_size;
  const Boxes boxes(placed.gather);
  const auto row = (offset - placed.extent.offset) / item / boxes.inner;  // rows of `inner` elements
  const auto in_cut = row % boxes.size;
  const auto first = in_cut / boxes.steps * boxes.steps;
  const auto count = std::min(boxes.steps, boxes.size - first);
  const auto begin = (row - in_cut + first) * boxes.inner;
  return {placed.extent.offset + begin * item, count * boxes.inner * item};
}

/// From `offset` on, as far as `size` and the innermost dimension go.
Extent GatheredSource::sample_at(const Placed& placed, std::uint64_t offset, std::uint64_t size) {
  const auto item = dtype_info(placed.gather.to).item_size;
  const Boxes boxes(placed.gather, 1);
  const auto place = offset - placed.extent.offset;
  const auto count = (place % item + size + item - 1) / item;
  return {offset - place % item, std::min(count, boxes.size - place / item % boxes.size) * item};
}

/// Whether its bytes are those of the source, in their order.
bool GatheredSource::is_plain(const Gather& gather) {
  return gather.from == gather.to && !gather.watch && gather.swapped == gather.result_swapped &&
         !gather.lazy.negative && !gather.lazy.conjugate && is_c_order(gather.shape, gather.strides);
}

/// Precondition: `extent` is a box of `placed` or inside a run of its innermost dimension, and `watched` a
/// part of it, if not empty.
Status GatheredSource::compute(const Placed& placed, Extent extent, Box& box, Extent watched) {
  const auto& gather = placed.gather;
  const auto from_item = dtype_info(gather.from).item_size;
  const auto to_item = dtype_info(gather.to).item_size;
  const auto values = extent.size / to_item;
  const Boxes usual(gather);
  const auto boxes =
      values % usual.inner == 0 ? usual : Boxes(gather, 1);  // a part of the innermost dimension
  std::vector<CopyAxis> axes;
  std::uint64_t stride = 1;
  for (auto i = gather.shape.size(); i-- > boxes.behind;) {
    const auto size = static_cast<std::uint64_t>(gather.shape[i]);
    axes.push_back({size, static_cast<std::uint64_t>(gather.strides[i]), stride});
    stride *= size;
  }
  auto start = gather.offset;
  if (boxes.behind > 0) {
    axes.push_back(
        {values / boxes.inner, static_cast<std::uint64_t>(gather.strides[boxes.behind - 1]), stride});
    auto row = (extent.offset - placed.extent.offset) / to_item / boxes.inner;
    for (auto i = boxes.behind; i-- > 0;) {
      const auto size = static_cast<std::uint64_t>(gather.shape[i]);
      start += row % size * static_cast<std::uint64_t>(gather.strides[i]);
      row /= size;
    }
  }

  box.extent = {};  // until it is whole
  const bool converts = gather.from != gather.to;
  auto& gathered = converts ? box.gathered : box.values;  // each byte of it becomes another one
  gathered.resize(values * from_item);
  CKPT_RETURN_IF_ERROR(read_strided(*gather.source, from_item, std::move(axes),
                                    gather.storage + start * from_item, gathered.data()));
  if (gather.swapped) swap_byte_order(gather.from, gathered);
  resolve_lazy_bits(gather.from, gather.lazy, gathered);
  if (converts) {
    box.values.resize(values * to_item);
    convert(gather.from, gathered, gather.to, box.values.data());
    if (gather.watch && watched.size > 0) {
      const auto first = (watched.offset - extent.offset) / to_item;
      const auto count = watched.size / to_item;
      gather.watch->look(ByteView(gathered).subspan(first * from_item, count * from_item),
                         ByteView(box.values).subspan(first * to_item, count * to_item),
                         (watched.offset - placed.extent.offset) / to_item);
    }
    if (gather.watch) gather.watch->correct(gathered, box.values);
  }
  if (gather.result_swapped) swap_byte_order(gather.to, box.values);
  box.extent = extent;
  return {};
}

}  // namespace ckpt
