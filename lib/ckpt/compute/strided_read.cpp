// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/strided_read.h"

#include <algorithm>
#include <span>
#include <utility>

#include "ckpt/base/bytes.h"

namespace ckpt {
namespace {

// Bytes of the source read at once. Enough that a column of a large matrix is read in stretches of some
// hundred bytes and more.
constexpr std::uint64_t kRead = std::uint64_t{4} << 20U;

// Stretches that belong side by side in the box are read one behind the other until there are so many bytes,
// and then placed together. Of long ones it is a piece of each.
constexpr std::uint64_t kBatch = std::uint64_t{1} << 20U;
constexpr std::uint64_t kPiece = std::uint64_t{16} << 10U;

// A stretch of the source is read as a whole if at least one byte in so many is wanted.
constexpr std::uint64_t kSparsest = 8;

/// The dimensions that lie closest together in the source are read in one stretch, the others by loops.
class Reader {
 public:
  Reader(const ByteSource& source, std::size_t item, std::vector<CopyAxis> axes)
      : source_(source), item_(item), axes_(std::move(axes)) {
    std::erase_if(axes_, [](const CopyAxis& axis) { return axis.count == 1; });
    std::stable_sort(axes_.begin(), axes_.end(),
                     [](const CopyAxis& a, const CopyAxis& b) { return a.from < b.from; });
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
  Status read_batches(const CopyAxis& around, std::uint64_t start, std::byte* out) {
    const auto whole = depth_ == 0 ? CopyAxis{1, 1, 1} : axes_[0];
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

  Status read_batches(const CopyAxis& inner, const CopyAxis& around, std::uint64_t start, std::byte* out) {
    const auto items = (inner.count - 1) * inner.from + 1;
    const auto most = std::max<std::uint64_t>(1, kBatch / (items * item_));
    for (std::uint64_t done = 0; done < around.count; done += most) {
      const CopyAxis batch{std::min(most, around.count - done), items, around.to};
      bytes_.resize(batch.count * items * item_);
      for (std::uint64_t i = 0; i < batch.count; ++i) {
        CKPT_RETURN_IF_ERROR(source_.read_at(start + (done + i) * around.from * item_,
                                             std::span(bytes_).subspan(i * items * item_, items * item_)));
      }
      copy_strided(item_, bytes_.data(), out + done * around.to * item_, inner, batch);
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
      copy_strided(item_, bytes_.data(), out + done * piece.to * item_, piece, {1, 0, 0});
    }
    return {};
  }

  void place(std::size_t depth, const std::byte* from, std::byte* out) const {
    if (depth == 0) return copy_strided(item_, from, out, {1, 1, 1}, {1, 0, 0});
    if (depth == 1) return copy_strided(item_, from, out, axes_[0], {1, 0, 0});
    if (depth == 2) return copy_strided(item_, from, out, axes_[0], axes_[1]);
    const auto& axis = axes_[depth - 1];
    for (std::uint64_t i = 0; i < axis.count; ++i)
      place(depth - 1, from + i * axis.from * item_, out + i * axis.to * item_);
  }

  const ByteSource& source_;
  std::size_t item_;
  std::vector<CopyAxis> axes_;  ///< the closest together in the source first
  std::size_t depth_ = 0;       ///< so many axes are one stretch; 0: each item is read alone
  std::uint64_t stretch_ = 0;
  Bytes bytes_;
};

}  // namespace

Status read_strided(const ByteSource& source, std::size_t item, std::vector<CopyAxis> axes,
                    std::uint64_t start, std::byte* out) {
  return Reader(source, item, std::move(axes)).run(start, out);
}

}  // namespace ckpt
