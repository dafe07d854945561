// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_delivery.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "ckpt/compute/convert.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{256} << 10U;     // bytes that are turned at once
constexpr std::uint64_t kMostBegun = std::uint64_t{64} << 20U;  // bytes of slabs that are not whole
constexpr std::uint64_t kLeastRun = 64;                         // bytes

}  // namespace

bool can_deliver(std::span<const std::int64_t> shape, std::span<const std::size_t> order, std::size_t item) {
  const BlockOrder found(shape, order, kMostSlabBytes / item);
  if (found.slab_size() > kMostSlabBytes / item) return false;
  return !found.is_cut() || found.run_size() * item >= kLeastRun;
}

MergeDelivery::MergeDelivery(const MergeJob& job) : job_(job), item_(dtype_info(job.dtype).item_size) {
  if (!job.order.empty()) order_.emplace(job.shape, job.order, job.most_slab_bytes / item_);
  if (order_ && order_->size() == 1) order_.reset();
  block_ = item_ * (order_ ? order_->size() : 1);
}

Status MergeDelivery::take(std::uint64_t offset, ByteView bytes, const Emit& emit) {
  if (is_direct()) return emit(offset, bytes);
  if (!order_) return emit_blocks(offset, bytes, emit);
  const auto cut = [&](std::uint64_t size) {
    const auto part = bytes.first(size);
    bytes = bytes.subspan(size);
    offset += size;
    return part;
  };
  while (!bytes.empty()) {
    const auto slab = order_->slab_at(offset / item_);
    const auto begin = offset;
    const auto left = (slab.first + slab.count) * item_ - offset;
    const bool is_whole = offset == slab.first * item_ && bytes.size() >= left;
    if (!is_whole) {
      CKPT_RETURN_IF_ERROR(add(slab, begin, cut(std::min<std::uint64_t>(left, bytes.size())), emit));
    } else if (order_->is_cut()) {
      CKPT_RETURN_IF_ERROR(emit_slab(slab, cut(left), emit));
    } else {
      CKPT_RETURN_IF_ERROR(emit_blocks(begin, cut(bytes.size() / block_ * block_), emit));
    }
  }
  return {};
}

Status MergeDelivery::add(const Slab& slab, std::uint64_t offset, ByteView bytes, const Emit& emit) {
  const auto begin = slab.first * item_;
  Begun* begun = nullptr;
  {
    const std::lock_guard lock(mutex_);
    begun = &begun_[begin];
    if (begun->values.empty()) {
      begun->missing = slab.count * item_;
      begun->values.resize(begun->missing);
    }
  }
  std::memcpy(begun->values.data() + (offset - begin), bytes.data(), bytes.size());
  Bytes whole;
  {
    const std::lock_guard lock(mutex_);
    begun->missing -= bytes.size();
    if (begun->missing > 0) return {};
    whole = std::move(begun->values);
    begun_.erase(begin);
  }
  return order_->is_cut() ? emit_slab(slab, whole, emit) : emit_blocks(begin, whole, emit);
}

Status MergeDelivery::emit_slab(const Slab& slab, ByteView values, const Emit& emit) const {
  const auto arrange = [&](std::uint64_t first, std::uint64_t count, std::byte* out) {
    order_->arrange_slab(item_, slab, values.data(), first, count, out);
  };
  return in_pieces(slab.count, arrange, [&](std::uint64_t first, ByteView piece) -> Status {
    while (!piece.empty()) {
      const auto place = order_->slab_place(slab, first);
      const auto run = piece.first(std::min(place.size * item_, piece.size()));
      CKPT_RETURN_IF_ERROR(emit(place.offset * item_, run));
      piece = piece.subspan(run.size());
      first += place.size;
    }
    return {};
  });
}

Status MergeDelivery::emit_blocks(std::uint64_t offset, ByteView values, const Emit& emit) const {
  const auto arrange = [&](std::uint64_t first, std::uint64_t count, std::byte* out) {
    if (order_) return order_->arrange(item_, values.data(), first, count, out);
    std::memcpy(out, values.data() + first * item_, count * item_);
  };
  return in_pieces(values.size() / item_, arrange,
                   [&](std::uint64_t first, ByteView piece) { return emit(offset + first * item_, piece); });
}

template <typename Arrange, typename Send>
Status MergeDelivery::in_pieces(std::uint64_t numbers, const Arrange& arrange, const Send& send) const {
  Bytes piece;
  for (std::uint64_t done = 0; done < numbers;) {
    const auto count = std::min(kPiece / item_, numbers - done);
    piece.resize(count * item_);
    arrange(done, count, piece.data());
    if (job_.result_swapped) swap_byte_order(job_.dtype, piece);
    CKPT_RETURN_IF_ERROR(send(done, piece));
    done += count;
  }
  return {};
}

MergeDelivery::Stretch MergeDelivery::stretch_at(const TensorMerge& merge, std::uint64_t offset) const {
  const auto chunk_at = [&](std::uint64_t place) { return merge.chunk(merge.chunk_at(place)); };
  if (!order_) {
    const auto chunk = chunk_at(offset);
    return {chunk, chunk};
  }
  const auto begin = offset / block_ * block_;
  if (order_->is_cut()) {
    const auto size = order_->slab_size() * item_;
    const auto first = begin + (offset - begin) / size * size;
    return {{first, std::min(size, begin + block_ - first)}, {begin, block_}};
  }
  const Extent blocks{begin, chunk_at(begin + block_ - 1).end() / block_ * block_ - begin};
  return {blocks, blocks};
}

std::size_t MergeDelivery::most_threads(std::size_t threads) const {
  if (!order_) return threads;
  const std::size_t all = threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency());
  return std::clamp<std::uint64_t>(kMostBegun / (order_->slab_size() * item_), 1, all);
}

}  // namespace ckpt
