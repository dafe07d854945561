// SPDX-License-Identifier: BSD-3-Clause
// What lies between the merge of a tensor and who takes its bytes: a merge gives little-endian numbers in C
// order, and the file may want them in another order of dimensions or of bytes.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "ckpt/base/bytes.h"
#include "ckpt/compute/block_order.h"
#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// Can a tensor of items of so many bytes be brought into another order, in slabs that fit memory? Not where
/// their runs would be too short to be written one by one.
bool can_deliver(std::span<const std::int64_t> shape, std::span<const std::size_t> order, std::size_t item);

class MergeDelivery {
 public:
  using Emit = TensorMerge::Emit;

  /// The job outlives it.
  explicit MergeDelivery(const MergeJob& job);

  /// Do bytes leave as they come, and at once?
  bool is_direct() const { return !order_ && !job_.result_swapped; }

  /// What the merge emits, by any thread, each byte once. Calls `emit` for what can leave; when all has been
  /// taken, all has left.
  Status take(std::uint64_t offset, ByteView bytes, const Emit& emit);

  /// A stretch of the result around `offset`, and what must have been taken before all of it leaves.
  struct Stretch {
    Extent result;
    Extent taken;
  };

  Stretch stretch_at(const TensorMerge& merge, std::uint64_t offset) const;

  /// Threads that may merge at once, so that the blocks they begin do not fill memory.
  std::size_t most_threads(std::size_t threads) const;

 private:
  struct Begun {
    Bytes values;  ///< of a slab, in C order
    std::uint64_t missing;
  };

  /// A part of one slab.
  Status add(const Slab& slab, std::uint64_t offset, ByteView bytes, const Emit& emit);
  Status emit_slab(const Slab& slab, ByteView values, const Emit& emit) const;
  /// Whole blocks, in C order.
  Status emit_blocks(std::uint64_t offset, ByteView values, const Emit& emit) const;
  /// So many numbers, a piece at a time: `arrange(first, count, out)`, then `send(first, piece)` in the byte
  /// order that the file has.
  template <typename Arrange, typename Send>
  Status in_pieces(std::uint64_t numbers, const Arrange& arrange, const Send& send) const;

  const MergeJob& job_;
  std::size_t item_;
  std::optional<BlockOrder> order_;
  std::uint64_t block_ = 1;  ///< bytes, of the result's dtype as are all
  std::mutex mutex_;
  std::map<std::uint64_t, Begun> begun_;  ///< by where the slab begins
};

}  // namespace ckpt
