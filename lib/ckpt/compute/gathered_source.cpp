// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/gathered_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <span>
#include <unordered_set>
#include <utility>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/device_gather.h"
#include "ckpt/compute/workers.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

// Values of a box, and bytes of the source read at once. Enough that a column of a large matrix is read in
// stretches of some hundred bytes and more.
constexpr std::uint64_t kBox = std::uint64_t{8} << 20U;
constexpr std::uint64_t kRead = std::uint64_t{4} << 20U;

// Values that lie in order are taken in pieces that stay in a near cache.
constexpr std::uint64_t kDenseBox = std::uint64_t{256} << 10U;

// Stretches that belong side by side in the box are read one behind the other until there are so many bytes,
// and then placed together. Of long ones it is a piece of each.
constexpr std::uint64_t kBatch = std::uint64_t{1} << 20U;
constexpr std::uint64_t kPiece = std::uint64_t{16} << 10U;

// A stretch of the source is read as a whole if at least one byte in so many is wanted.
constexpr std::uint64_t kSparsest = 8;

// So short a read that does not go on from the one before is a sample, and not worth a box.
constexpr std::uint64_t kShortRead = 1024;

// A read of so many bytes goes to the source itself where values lie there as they are wanted.
constexpr std::uint64_t kDirectRead = 512;

/// One dimension of a box.
struct Axis {
  std::uint64_t count;
  std::uint64_t from;  ///< stride in the source, elements
  std::uint64_t to;    ///< stride in the box, elements
};

constexpr std::size_t kLine = 64;  // bytes that a processor moves between its caches at once

/// Copies items of one size from a stretch of the source to their places, two dimensions at a time.
template <std::size_t kItem>
void scatter(const std::byte* from, std::byte* to, const Axis& inner, const Axis& outer) {
  for (std::uint64_t i = 0; i < outer.count; ++i) {
    const auto* source = from + i * outer.from * kItem;
    auto* target = to + i * outer.to * kItem;
    for (std::uint64_t j = 0; j < inner.count; ++j) {
      std::memcpy(target, source, kItem);
      source += inner.from * kItem;
      target += inner.to * kItem;
    }
  }
}

/// Turns a square of cache lines: item l of line k becomes item k of line l.
template <std::size_t kItem>
void turn_square(const std::byte* square, std::byte* to, std::uint64_t step) {
  constexpr std::uint64_t kSide = kLine / kItem;
  for (std::uint64_t k = 0; k < kSide; ++k) {
    std::array<std::byte, kLine> line;
    for (std::uint64_t l = 0; l < kSide; ++l)
      std::memcpy(&line[l * kItem], &square[l * kLine + k * kItem], kItem);
    std::memcpy(to + k * step, line.data(), kLine);
  }
}

/// The same for the commonest size, in blocks of four by four.
template <>
void turn_square<4>(const std::byte* square, std::byte* to, std::uint64_t step) {
  using Four = std::uint32_t __attribute__((vector_size(16)));
  constexpr std::uint64_t kBlock = sizeof(Four);
  const auto load = [&](std::uint64_t row, std::uint64_t column) {
    Four four;
    std::memcpy(&four, square + row * kLine + column * kBlock, kBlock);
    return four;
  };
  for (std::uint64_t column = 0; column < kLine / kBlock; ++column) {
    for (std::uint64_t block = 0; block < kLine / kBlock; ++block) {
      const auto a = load(4 * block, column);
      const auto b = load(4 * block + 1, column);
      const auto c = load(4 * block + 2, column);
      const auto d = load(4 * block + 3, column);
      const auto low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const auto low_cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
      const auto high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const auto high_cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const std::array<Four, 4> turned = {__builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5),
                                          __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7),
                                          __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5),
                                          __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7)};
      for (std::uint64_t i = 0; i < 4; ++i)
        std::memcpy(to + (4 * column + i) * step + block * kBlock, &turned[i], kBlock);
    }
  }
}

/// The same where items lie next to each other along `inner` in the source and along `outer` in the box: a
/// square of cache lines at a time, each of which is read once and written once.
template <std::size_t kItem>
void transpose(const std::byte* from, std::byte* to, const Axis& inner, const Axis& outer) {
  constexpr std::uint64_t kSide = kLine / kItem;
  const auto columns = inner.count / kSide * kSide;
  const auto rows = outer.count / kSide * kSide;
  std::array<std::byte, kSide * kLine> square;
  for (std::uint64_t i = 0; i < rows; i += kSide) {
    for (std::uint64_t j = 0; j < columns; j += kSide) {
      const auto* source = from + (i * outer.from + j) * kItem;
      for (std::uint64_t k = 0; k < kSide; ++k)
        std::memcpy(&square[k * kLine], source + k * outer.from * kItem, kLine);
      turn_square<kItem>(square.data(), to + (i + j * inner.to) * kItem, inner.to * kItem);
    }
  }
  const Axis rest_of_row{inner.count - columns, inner.from, inner.to};
  scatter<kItem>(from + columns * kItem, to + columns * inner.to * kItem, rest_of_row,
                 {rows, outer.from, outer.to});
  scatter<kItem>(from + rows * outer.from * kItem, to + rows * kItem, inner,
                 {outer.count - rows, outer.from, outer.to});
}

template <std::size_t kItem>
void place_two(const std::byte* from, std::byte* to, const Axis& inner, const Axis& outer) {
  if (inner.from == 1 && outer.to == 1) return transpose<kItem>(from, to, inner, outer);
  if (outer.from == 1 && inner.to == 1) return transpose<kItem>(from, to, outer, inner);
  scatter<kItem>(from, to, inner, outer);
}

void scatter(std::size_t item, const std::byte* from, std::byte* to, const Axis& inner, const Axis& outer) {
  if (inner.from == 1 && inner.to == 1) {
    for (std::uint64_t i = 0; i < outer.count; ++i)
      std::memcpy(to + i * outer.to * item, from + i * outer.from * item, inner.count * item);
    return;
  }
  switch (item) {
    case 1: return place_two<1>(from, to, inner, outer);
    case 2: return place_two<2>(from, to, inner, outer);
    case 4: return place_two<4>(from, to, inner, outer);
    case 8: return place_two<8>(from, to, inner, outer);
    default: return place_two<16>(from, to, inner, outer);
  }
}

/// Fills a box from the source: the dimensions that lie closest together there are read in one stretch, the
/// others by loops.
class BoxReader {
 public:
  BoxReader(const ByteSource& source, std::size_t item, std::vector<Axis> axes)
      : source_(source), item_(item), axes_(std::move(axes)) {
    std::erase_if(axes_, [](const Axis& axis) { return axis.count == 1; });
    std::stable_sort(axes_.begin(), axes_.end(),
                     [](const Axis& a, const Axis& b) { return a.from < b.from; });
    join_axes();
    while (axes_.size() < 2) axes_.push_back({1, 0, 0});
    choose_stretch();
  }

  /// `start`: byte of the source where the box's first element lies.
  Status run(std::uint64_t start, std::byte* out) {
    if (axes_[0].from == 1 && axes_[0].to == 1 && axes_.size() == 2 && axes_[1].count == 1)
      return source_.read_at(start, std::span(out, axes_[0].count * item_));
    return read_outer(axes_.size(), start, out);
  }

 private:
  /// Neighbours that step through source and box alike are one dimension.
  void join_axes() {
    for (std::size_t i = 1; i < axes_.size();) {
      auto& inner = axes_[i - 1];
      if (axes_[i].from == inner.from * inner.count && axes_[i].to == inner.to * inner.count) {
        inner.count *= axes_[i].count;
        axes_.erase(axes_.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  }

  void choose_stretch() {
    std::uint64_t last = 0;  // element of the stretch farthest from its first
    std::uint64_t wanted = 1;
    for (const auto& axis : axes_) {
      const auto farther = last + (axis.count - 1) * axis.from;
      const auto more = wanted * (axis.from == 0 ? 1 : axis.count);
      const auto bytes = (farther + 1) * item_;
      if ((depth_ > 0 && bytes > kRead) || farther / kSparsest >= more) break;
      last = farther;
      wanted = more;
      ++depth_;
    }
    stretch_ = (last + 1) * item_;
  }

  Status read_outer(std::size_t depth, std::uint64_t start, std::byte* out) {
    if (depth == depth_) return read_stretch(start, out);
    if (depth == depth_ + 1 && depth_ <= 1 && is_batched()) return read_batches(axes_[depth_], start, out);
    const auto& axis = axes_[depth - 1];
    for (std::uint64_t i = 0; i < axis.count; ++i) {
      CKPT_RETURN_IF_ERROR(read_outer(depth - 1, start + i * axis.from * item_, out + i * axis.to * item_));
    }
    return {};
  }

  /// Is a stretch short, or in another order in the box?
  bool is_batched() const { return stretch_ <= kBatch / 2 || (depth_ == 1 && axes_[0].to != 1); }

  /// All steps of the axis around a stretch of at most one axis.
  Status read_batches(const Axis& around, std::uint64_t start, std::byte* out) {
    const auto whole = depth_ == 0 ? Axis{1, 1, 1} : axes_[0];
    auto inner = whole;
    if (stretch_ > kPiece && whole.to != 1)
      inner.count = std::max<std::uint64_t>(1, kPiece / item_ / std::max<std::uint64_t>(1, whole.from));
    for (std::uint64_t first = 0; first < whole.count; first += inner.count) {
      inner.count = std::min(inner.count, whole.count - first);
      CKPT_RETURN_IF_ERROR(
          read_batches(inner, around, start + first * whole.from * item_, out + first * whole.to * item_));
    }
    return {};
  }

  Status read_batches(const Axis& inner, const Axis& around, std::uint64_t start, std::byte* out) {
    const auto items = (inner.count - 1) * inner.from + 1;
    const auto most = std::max<std::uint64_t>(1, kBatch / (items * item_));
    for (std::uint64_t done = 0; done < around.count; done += most) {
      const Axis batch{std::min(most, around.count - done), items, around.to};
      bytes_.resize(batch.count * items * item_);
      for (std::uint64_t i = 0; i < batch.count; ++i) {
        CKPT_RETURN_IF_ERROR(source_.read_at(start + (done + i) * around.from * item_,
                                             std::span(bytes_).subspan(i * items * item_, items * item_)));
      }
      scatter(item_, bytes_.data(), out + done * around.to * item_, inner, batch);
    }
    return {};
  }

  /// The innermost axis may be longer than what is read at once.
  Status read_stretch(std::uint64_t start, std::byte* out) {
    if (stretch_ <= kRead) {
      bytes_.resize(stretch_);
      CKPT_RETURN_IF_ERROR(source_.read_at(start, bytes_));
      place(depth_, bytes_.data(), out);
      return {};
    }
    auto piece = axes_.front();
    const auto step = std::max<std::uint64_t>(1, kRead / item_ / std::max<std::uint64_t>(1, piece.from));
    for (std::uint64_t done = 0; done < axes_.front().count; done += step) {
      piece.count = std::min(step, axes_.front().count - done);
      bytes_.resize(((piece.count - 1) * piece.from + 1) * item_);
      CKPT_RETURN_IF_ERROR(source_.read_at(start + done * piece.from * item_, bytes_));
      scatter(item_, bytes_.data(), out + done * piece.to * item_, piece, {1, 0, 0});
    }
    return {};
  }

  void place(std::size_t depth, const std::byte* from, std::byte* out) const {
    if (depth == 0) return scatter(item_, from, out, {1, 1, 1}, {1, 0, 0});
    if (depth == 1) return scatter(item_, from, out, axes_[0], {1, 0, 0});
    if (depth == 2) return scatter(item_, from, out, axes_[0], axes_[1]);
    const auto& axis = axes_[depth - 1];
    for (std::uint64_t i = 0; i < axis.count; ++i)
      place(depth - 1, from + i * axis.from * item_, out + i * axis.to * item_);
  }

  const ByteSource& source_;
  std::size_t item_;
  std::vector<Axis> axes_;  ///< the closest together in the source first
  std::size_t depth_ = 0;   ///< so many axes are one stretch; 0: each item is read alone
  std::uint64_t stretch_ = 0;
  Bytes bytes_;
};

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
    auto* box = &box_;
    if (offset < box->extent.offset || offset >= box->extent.end()) {
      const auto& placed = result_at(offset);
      if (out.size() >= kDirectRead && is_plain(placed.gather)) {
        const auto& gather = placed.gather;
        const auto begin = gather.storage + gather.offset * dtype_info(gather.from).item_size;
        const auto part = out.first(std::min<std::uint64_t>(out.size(), placed.extent.end() - offset));
        CKPT_RETURN_IF_ERROR(gather.source->read_at(begin + (offset - placed.extent.offset), part));
        out = out.subspan(part.size());
        offset += part.size();
        continue;
      }
      const bool is_sample = out.size() <= kShortRead && offset != box->extent.end();
      if (is_sample) box = &sample_;
      const auto extent = is_sample ? sample_at(placed, offset, out.size()) : box_at(placed, offset);
      CKPT_RETURN_IF_ERROR(compute(placed, extent, *box));
    }
    const auto size = std::min<std::uint64_t>(out.size(), box->extent.end() - offset);
    std::memcpy(out.data(), box->values.data() + (offset - box->extent.offset), size);
    out = out.subspan(size);
    offset += size;
  }
  return {};
}

Status GatheredSource::produce(std::span<const Extent> pieces, const ComputeOptions& options,
                               const Deliver& deliver, const std::function<void()>& report) const {
  struct Job {
    std::size_t piece;
    Extent extent;   ///< of one box
    bool is_repeat;  ///< a piece before has the same
  };

  for (const auto& placed : results_) {
    if (placed.gather.watch) placed.gather.watch->begin();
  }
  std::vector<Job> jobs;
  std::vector<DeviceGather> sent;  // to the GPU
  std::unordered_set<std::uint64_t> seen;
  std::uint64_t bytes = 0;
  const auto add_boxes = [&](std::size_t piece, const Placed& placed, Extent wanted) {
    bytes += wanted.size;
    for (auto offset = wanted.offset; offset < wanted.end();) {
      const auto end = std::min(box_at(placed, offset).end(), wanted.end());
      jobs.push_back({piece, {offset, end - offset}, !seen.insert(offset).second});
      offset = end;
    }
  };
  for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
    const auto wanted = pieces[piece];
    CKPT_RETURN_IF_ERROR(require(wanted));
    for (auto offset = wanted.offset; offset < wanted.end();) {
      const auto& placed = result_at(offset);
      const Extent part{offset, std::min(placed.extent.end(), wanted.end()) - offset};
      if (options.device != nullptr && part.size == placed.extent.size &&
          suits_device(*options.device, placed.gather)) {
        sent.push_back({&placed.gather, piece, offset - wanted.offset, !seen.insert(offset).second});
      } else {
        add_boxes(piece, placed, part);
      }
      offset = part.end();
    }
  }
  if (!sent.empty()) {
    CKPT_ASSIGN_OR_RETURN(const auto left,
                          gather_on_device(*options.device, sent, options.threads, deliver, report));
    for (const auto i : left) {
      const auto offset = pieces[sent[i].piece].offset + sent[i].offset;
      const auto& placed = result_at(offset);
      if (!sent[i].is_repeat) seen.erase(offset);
      add_boxes(sent[i].piece, placed, placed.extent);
    }
  }
  Workers workers(worthwhile_threads(options.threads, bytes), jobs.size());
  const auto work = [&](std::size_t index, Box& box) -> Status {
    const auto& [piece, extent, is_repeat] = jobs[index];
    const auto& placed = result_at(extent.offset);
    CKPT_RETURN_IF_ERROR(compute(placed, box_at(placed, extent.offset), box, is_repeat ? Extent{} : extent));
    return deliver(piece, extent.offset - pieces[piece].offset,
                   ByteView(box.values).subspan(extent.offset - box.extent.offset, extent.size));
  };
  CKPT_RETURN_IF_ERROR(workers.run_with<Box>(work, report));
  for (const auto& placed : results_) {
    if (placed.gather.watch) CKPT_RETURN_IF_ERROR(placed.gather.watch->verdict());
  }
  return {};
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
  std::vector<Axis> axes;
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
  BoxReader reader(*gather.source, from_item, std::move(axes));
  CKPT_RETURN_IF_ERROR(reader.run(gather.storage + start * from_item, gathered.data()));
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
