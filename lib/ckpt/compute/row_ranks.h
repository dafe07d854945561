// SPDX-License-Identifier: BSD-3-Clause
// della's masks: within a row, the greater a magnitude is, the likelier it is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ckpt/compute/merge_kernels.h"

namespace ckpt {

/// How likely a number is kept whose magnitude has rank r of n, 0 being the smallest: density - epsilon +
/// 2 epsilon r / (n - 1), or density where there is just one. Kept where 32 random bits are below 2^32 times
/// it.
struct RankedMask {
  double density = 1;
  double epsilon = 0;
  std::uint64_t key = 0;  ///< of the random stream
};

/// Rows up to this size are ranked exactly; longer ones by magnitudes that are rounded to float32 and cut to
/// 12 bits behind the point, where numbers that then are equal share their middle rank.
inline constexpr std::uint64_t kLongestRankedRow = std::uint64_t{1} << 19U;

template <typename Real>
class RowRanker {
 public:
  using Key = MagnitudeKey<Real>;

  explicit RowRanker(const MergeKernels<Real>& kernels) : kernels_(kernels) {}

  /// `keys`: of the magnitudes of a row, none above `greatest`, whose first number is `first` of its tensor.
  /// Sets bit `bit` + i of `bits`, which are 0, for each number i that is kept. Equal magnitudes: the earlier
  /// counts as the greater.
  void mark(std::span<const Key> keys, Key greatest, const RankedMask& mask, std::uint64_t first,
            std::size_t bit, std::vector<std::uint64_t>& bits);

 private:
  void set_thresholds(std::size_t size, const RankedMask& mask);
  bool mark_by_depth(std::span<const Key> keys, Key greatest, std::size_t bit,
                     std::vector<std::uint64_t>& bits);
  void bound_thresholds(std::size_t depths);
  std::size_t decide_by_bounds();
  void mark_by_order(std::span<const Key> keys, Key greatest, std::size_t bit,
                     std::vector<std::uint64_t>& bits);

  const MergeKernels<Real>& kernels_;
  std::vector<std::uint32_t> random_;      ///< by number
  std::vector<std::uint64_t> thresholds_;  ///< by place in the order, of `density_` and `epsilon_`
  double density_ = 0;
  double epsilon_ = 0;

  std::vector<std::uint16_t> depths_;  ///< by number, as far as they tell places apart
  std::vector<std::uint32_t> counts_;  ///< of depths
  std::vector<std::uint64_t> surely_;  ///< by depth: thresholds of the last place and the first one
  std::vector<std::uint64_t> perhaps_;
  std::vector<std::uint64_t> kept_;  ///< bits by number
  std::vector<std::uint32_t> open_;  ///< numbers whose place matters
  std::vector<std::uint64_t> order_;
  std::vector<std::uint64_t> other_;
};

/// The same for a long row in two passes: count every number, then ask for each.
class RowHistogram {
 public:
  void count(double value) { ++counts_[bin_of(value)]; }

  /// Turns counts into ranks.
  void settle();

  bool keeps(double value, const RankedMask& mask, std::uint64_t number) const;

 private:
  static constexpr std::size_t kBins = std::size_t{1} << 20U;

  static std::size_t bin_of(double value);

  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(kBins);
  std::vector<float> shares_;  ///< r / (n - 1)
};

}  // namespace ckpt
