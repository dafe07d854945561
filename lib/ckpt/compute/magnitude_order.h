// SPDX-License-Identifier: BSD-3-Clause
// The exact order of magnitudes of a tensor that does not fit memory: which numbers are among the k greatest.
// There is one order for every method: greatest first, NaNs before all, equal magnitudes by position.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "ckpt/compute/merge_kernels.h"
#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// A place in the order: so many numbers stand before it.
template <typename Real>
struct MagnitudeCut {
  using Key = MagnitudeKey<Real>;

  /// Every number with a greater key stands before the cut, and of those with this key the first `taken`.
  Key key = 0;
  std::uint64_t taken = 0;
  std::uint64_t equals = 0;                  ///< numbers with this key
  bool splits_equals = false;                ///< not all with this key stand on one side
  std::vector<std::uint64_t> equals_before;  ///< by chunk, of its key in the chunks before; if it splits them
};

/// Finds a cut in passes over the tensor: mostly one, which counts what lies above a guessed interval of
/// keys, keeps what lies inside, and proves the guess. A wrong guess is followed by counting, which never
/// fails.
template <typename Real>
class CutSearch {
 public:
  using Key = MagnitudeKey<Real>;

  /// `place`: numbers before the cut. Preconditions: 0 < place < numbers.
  CutSearch(std::uint64_t numbers, std::uint64_t place, std::uint64_t chunks)
      : numbers_(numbers),
        place_(place),
        most_inside_(std::clamp(numbers / 8, kMergeChunk, kMostInside)),
        parts_(chunks) {}

  /// Keys of numbers here and there, which it orders as it likes. Without a guess all keys are kept.
  void guess(std::span<Key> sample);

  bool is_found() const { return is_found_; }

  /// Keys that the next pass may keep.
  std::uint64_t expected() const { return expected_; }

  // One pass: `add` for every block of a chunk, then `end_chunk`; by one thread for a chunk. After all:
  // `settle`.
  struct Chunk {
    KeyCounts counts;
    std::vector<std::uint64_t> bins;
    std::vector<Key> inside;
  };

  void add(const MergeKernels<Real>& kernels, Chunk& chunk, const Real* x, std::size_t count) const;
  void end_chunk(std::uint64_t index, Chunk& chunk);
  void settle();

  /// Precondition: `is_found`.
  const MagnitudeCut<Real>& cut() const { return cut_; }

 private:
  static constexpr std::size_t kBins = std::size_t{1} << 16U;
  static constexpr std::uint64_t kMostInside = std::uint64_t{6} << 20U;
  static constexpr Key kGreatest = ~Key{0} >> 1U;

  struct Part {
    std::uint64_t at_upper = 0;
    std::uint64_t at_lower = 0;
    std::vector<Key> inside;
  };

  void count_within(Key low, Key high, std::uint64_t above);
  void settle_bins();
  void settle_interval();
  template <typename Equals>
  void found(Key key, std::uint64_t taken, Equals equals);

  std::uint64_t numbers_;
  std::uint64_t place_;
  std::uint64_t most_inside_;  ///< keys that may be kept, or twice what is expected
  bool is_found_ = false;
  MagnitudeCut<Real> cut_;

  // Keys are kept that lie between these, or counted in bins.
  Key lower_ = 0;
  Key upper_ = kGreatest;
  std::uint64_t expected_ = 0;
  bool is_counting_ = false;
  std::uint64_t above_ = 0;  ///< when counting: greater than `upper_`
  unsigned shift_ = 0;

  std::mutex mutex_;
  std::vector<std::uint64_t> bins_;
  std::vector<Part> parts_;
  std::atomic<std::uint64_t> inside_ = 0;
  std::atomic<std::uint64_t> total_above_ = 0;
};

}  // namespace ckpt
