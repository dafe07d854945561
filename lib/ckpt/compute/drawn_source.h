// SPDX-License-Identifier: BSD-3-Clause
// Large tensors of random values as sources: drawn while they are read. A few megabytes exist at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "ckpt/base/export.h"
#include "ckpt/compute/torch_random.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

/// The elements of one tensor in the order in which they are drawn.
class CKPT_EXPORT DrawnSource final : public ByteSource {
 public:
  /// Draws the next `count` elements. Precondition: a tensor drawn in pieces of multiples of 16 elements,
  /// none with less, has the values of one drawn at once.
  using Draw = std::function<Bytes(TorchRandom& random, std::uint64_t count)>;

  /// `count` elements of `item_size` bytes, drawn from `random` on. Precondition: their bytes can be counted.
  DrawnSource(const TorchRandom& random, Draw draw, std::uint64_t count, std::size_t item_size)
      : start_(random), random_(random), draw_(std::move(draw)), count_(count), item_size_(item_size) {}

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return count_ * item_size_; }

  /// Quick for who reads forward; who goes back draws from the beginning.
  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  /// The stream behind the last element. Draws them all.
  TorchRandom random_behind() const;

 private:
  std::uint64_t pieces() const;
  std::uint64_t piece_size(std::uint64_t piece) const;  ///< elements

  const std::string name_ = "initial values";
  const TorchRandom start_;
  mutable std::mutex mutex_;
  mutable TorchRandom random_;
  mutable std::uint64_t next_piece_ = 0;  ///< which `random_` draws next
  mutable Bytes piece_;                   ///< the one before
  const Draw draw_;
  const std::uint64_t count_;
  const std::size_t item_size_;
};

}  // namespace ckpt
