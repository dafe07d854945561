// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/drawn_source.h"

#include <algorithm>
#include <cstring>

namespace ckpt {
namespace {

constexpr std::uint64_t kPiece = 1U << 16U;  ///< elements; a multiple of 16

}  // namespace

/// The last piece takes what is left over, so that none is small.
std::uint64_t DrawnSource::pieces() const {
  return std::max<std::uint64_t>(1, count_ / kPiece);
}

std::uint64_t DrawnSource::piece_size(std::uint64_t piece) const {
  return piece + 1 < pieces() ? kPiece : count_ - piece * kPiece;
}

Status DrawnSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  const std::lock_guard lock(mutex_);
  while (!out.empty()) {
    const auto piece = std::min(offset / item_size_ / kPiece, pieces() - 1);
    if (piece + 1 < next_piece_) {
      random_ = start_;
      next_piece_ = 0;
    }
    for (; next_piece_ <= piece; ++next_piece_) piece_ = draw_(random_, piece_size(next_piece_));
    const auto begin = offset - piece * kPiece * item_size_;
    const auto size = std::min<std::uint64_t>(out.size(), piece_.size() - begin);
    std::memcpy(out.data(), piece_.data() + begin, size);
    out = out.subspan(size);
    offset += size;
  }
  return {};
}

TorchRandom DrawnSource::random_behind() const {
  auto random = start_;
  for (std::uint64_t piece = 0; piece < pieces(); ++piece) draw_(random, piece_size(piece));
  return random;
}

}  // namespace ckpt
