// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_delivery.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "ckpt/compute/convert.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{256} << 10U;     // bytes that are turned at once
constexpr std::uint64_t kMostBegun = std::uint64_t{64} << 20U;  // bytes of blocks that are not whole

}  // namespace

MergeDelivery::MergeDelivery(const MergeJob& job) : job_(job), item_(dtype_info(job.dtype).item_size) {
  if (!job.order.empty()) order_.emplace(job.shape, job.order);
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
  const auto in_block = offset % block_;
  if (in_block > 0) {
    const auto begin = offset;
    CKPT_RETURN_IF_ERROR(add(begin, cut(std::min<std::uint64_t>(block_ - in_block, bytes.size())), emit));
  }
  if (bytes.size() >= block_) {
    const auto begin = offset;
    CKPT_RETURN_IF_ERROR(emit_blocks(begin, cut(bytes.size() / block_ * block_), emit));
  }
  if (bytes.empty()) return {};
  return add(offset, bytes, emit);
}

Status MergeDelivery::add(std::uint64_t offset, ByteView bytes, const Emit& emit) {
  const auto begin = offset / block_ * block_;
  Begun* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    block = &begun_[begin];
    if (block->values.empty()) {
      block->values.resize(block_);
      block->missing = block_;
    }
  }
  std::memcpy(block->values.data() + (offset - begin), bytes.data(), bytes.size());
  Bytes whole;
  {
    const std::lock_guard lock(mutex_);
    block->missing -= bytes.size();
    if (block->missing > 0) return {};
    whole = std::move(block->values);
    begun_.erase(begin);
  }
  return emit_blocks(begin, whole, emit);
}

Status MergeDelivery::emit_blocks(std::uint64_t offset, ByteView values, const Emit& emit) const {
  Bytes piece(std::min<std::uint64_t>(kPiece, values.size()));
  for (std::uint64_t done = 0; done < values.size(); done += piece.size()) {
    piece.resize(std::min<std::uint64_t>(piece.size(), values.size() - done));
    if (order_) {
      order_->arrange(item_, values.data(), done / item_, piece.size() / item_, piece.data());
    } else {
      std::memcpy(piece.data(), values.data() + done, piece.size());
    }
    if (job_.result_swapped) swap_byte_order(job_.dtype, piece);
    CKPT_RETURN_IF_ERROR(emit(offset + done, piece));
  }
  return {};
}

Extent MergeDelivery::stretch_at(const TensorMerge& merge, std::uint64_t offset) const {
  const auto chunk_at = [&](std::uint64_t place) { return merge.chunk(merge.chunk_at(place)); };
  if (!order_) return chunk_at(offset);
  const auto begin = offset / block_ * block_;
  const auto end = chunk_at(begin + block_ - 1).end() / block_ * block_;
  return {begin, end - begin};
}

std::size_t MergeDelivery::most_threads(std::size_t threads) const {
  if (!order_) return threads;
  const std::size_t all = threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency());
  return std::clamp<std::uint64_t>(kMostBegun / block_, 1, all);
}

}  // namespace ckpt
