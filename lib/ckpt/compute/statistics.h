// SPDX-License-Identifier: BSD-3-Clause
// What is known of the values of a tensor after one look at each: extremes, moments, and how many are no
// ordinary numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// A value as its dtype has it: exact for integers, and for floats, which all are doubles.
using StatisticsValue = std::variant<double, std::int64_t, std::uint64_t>;

CKPT_EXPORT double as_double(const StatisticsValue& value);

struct Statistics {
  std::uint64_t count = 0;  ///< values
  std::uint64_t zeros = 0;  ///< -0 too
  std::uint64_t nans = 0;
  std::uint64_t infinities = 0;
  std::uint64_t subnormals = 0;  ///< less than the smallest normal number of the dtype, and not 0
  /// Of values that are no NaN; infinities count. Nothing where there are none, and of complex values.
  std::optional<StatisticsValue> minimum;
  std::optional<StatisticsValue> maximum;
  double mean = 0;     ///< of finite values; 0 where there are none
  double squares = 0;  ///< of their distances to the mean, added up

  std::uint64_t finite() const { return count - nans - infinities; }

  bool has_moments() const { return is_real && finite() > 0; }

  /// Of a sample, as torch.std: with n - 1. Precondition: two finite values at least.
  CKPT_EXPORT double standard_deviation() const;

  bool is_real = true;  ///< complex values have no order, and only counts
};

/// Can values of the dtype be looked at? Not those of less than a byte, and not raw bits.
CKPT_EXPORT bool has_statistics(Dtype dtype);

/// Of little-endian values, whole items. The result is the same on any processor. Precondition:
/// `has_statistics`.
CKPT_EXPORT Statistics statistics_of(Dtype dtype, std::span<const std::byte> values);

/// Adds those of the values behind. Sums are rounded, so the order of blocks matters in the last bits.
CKPT_EXPORT void add_statistics(Statistics& sum, const Statistics& next);

/// Each value `times` times, as an expanded tensor has it, and with the other sign if `negated`.
CKPT_EXPORT void repeat_statistics(Statistics& values, std::uint64_t times);
CKPT_EXPORT void negate_statistics(Statistics& values);

/// Equal bins from `low` to `high`, as torch.histc: the last one holds `high` too.
class CKPT_EXPORT Histogram {
 public:
  /// Preconditions: finite, low <= high, 1 bin at least. Where low == high, bins reach from low - 1 to
  /// high + 1, or to the next numbers where these are farther.
  Histogram(double low, double high, std::size_t bins);

  /// Little-endian values, whole items; those that are not finite or lie outside are not counted.
  void add(Dtype dtype, std::span<const std::byte> values, bool negated);
  void add(const Histogram& other);

  double low() const { return low_; }

  double high() const { return high_; }

  std::vector<std::uint64_t>& counts() { return counts_; }

  const std::vector<std::uint64_t>& counts() const { return counts_; }

 private:
  double low_;
  double high_;
  std::vector<std::uint64_t> counts_;
};

}  // namespace ckpt
