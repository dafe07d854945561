// SPDX-License-Identifier: BSD-3-Clause
// Elements that come in C order and are to lie in another order of dimensions. The outer dimensions that both
// orders begin with cut the tensor into blocks, each at the same place in both: a block is all that has to be
// known at once. Kernels in channels_last have one for each output channel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"

namespace ckpt {

class CKPT_EXPORT BlockOrder {
 public:
  /// `order`: the dimensions of `shape` as they are to lie, from the slowest to the fastest, each once.
  BlockOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> order);

  /// Elements of a block; 1 where the orders do not differ.
  std::uint64_t size() const { return size_; }

  /// Elements `first` to `first` + `count` of the other order. `values`: whole blocks in C order, the first
  /// of which has element 0; of `item` bytes each.
  void arrange(std::size_t item, const std::byte* values, std::uint64_t first, std::uint64_t count,
               std::byte* out) const;

 private:
  /// A dimension of a block.
  struct Axis {
    std::uint64_t count;
    std::uint64_t from;  ///< stride in C order, elements
  };

  template <std::size_t kItem>
  void arrange_items(const std::byte* values, std::uint64_t first, std::uint64_t count, std::byte* out) const;

  std::uint64_t size_ = 1;
  std::vector<Axis> axes_;  ///< as they are to lie, from the fastest to the slowest
};

}  // namespace ckpt
