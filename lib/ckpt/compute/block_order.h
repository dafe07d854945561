// SPDX-License-Identifier: BSD-3-Clause
// Elements that come in C order and are to lie in another order of dimensions. The outer dimensions that both
// orders begin with cut the tensor into blocks, each at the same place in both: a block is all that has to be
// known at once. Kernels in channels_last have one for each output channel. A block that is too large for
// that, as of a large transposed matrix, is cut into slabs of rows, which lie in runs all over the block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/io/extent.h"

namespace ckpt {

/// What has to be known at once: a block, or a slab of one.
struct Slab {
  std::uint64_t first = 0;  ///< element in C order
  std::uint64_t count = 0;
  std::uint64_t block = 0;  ///< element that its block begins with, in either order
  std::uint64_t row = 0;    ///< first one, and how many, of the slowest dimension of a block
  std::uint64_t rows = 0;
};

class CKPT_EXPORT BlockOrder {
 public:
  /// `order`: the dimensions of `shape` as they are to lie, from the slowest to the fastest, each once.
  /// `most`: elements of a slab, unless a row has more.
  BlockOrder(std::span<const std::int64_t> shape, std::span<const std::size_t> order,
             std::uint64_t most = std::numeric_limits<std::uint64_t>::max());

  /// Elements of a block; 1 where the orders do not differ.
  std::uint64_t size() const { return size_; }

  /// Is a block more than one slab?
  bool is_cut() const { return slab_rows_ < rows_; }

  /// Elements of a slab, and of the runs that it lies in; those of the last one of a block can be fewer.
  std::uint64_t slab_size() const { return size_ / rows_ * slab_rows_; }

  std::uint64_t run_size() const { return is_cut() ? inside_ * slab_rows_ : size_; }

  /// The one with an element in C order.
  Slab slab_at(std::uint64_t element) const;

  /// Elements `first` to `first` + `count` of the other order. `values`: whole blocks in C order, the first
  /// of which has element 0; of `item` bytes each.
  void arrange(std::size_t item, const std::byte* values, std::uint64_t first, std::uint64_t count,
               std::byte* out) const;

  /// The same within a slab, which `values` has. `slab_place` says where an element of it lies, and how many
  /// more of it do behind one another.
  void arrange_slab(std::size_t item, const Slab& slab, const std::byte* values, std::uint64_t first,
                    std::uint64_t count, std::byte* out) const;
  Extent slab_place(const Slab& slab, std::uint64_t element) const;

 private:
  /// A dimension of a block.
  struct Axis {
    std::uint64_t count;
    std::uint64_t from;  ///< stride in C order, elements
  };

  static void arrange_axes(std::size_t item, std::span<const Axis> axes, const std::byte* values,
                           std::uint64_t first, std::uint64_t count, std::byte* out);

  std::uint64_t size_ = 1;
  std::vector<Axis> axes_;   ///< as they are to lie, from the fastest to the slowest
  std::size_t slowest_ = 0;  ///< of them, in C order
  std::uint64_t rows_ = 1;   ///< its count
  std::uint64_t slab_rows_ = 1;
  std::uint64_t inside_ = 1;  ///< elements that are to lie within one step of it
};

}  // namespace ckpt
