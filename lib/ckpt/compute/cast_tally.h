// SPDX-License-Identifier: BSD-3-Clause
// What a cast does to values besides rounding them: what is too large for the dtype, what becomes 0, how much
// is lost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Does every value of `from` stay exactly what it is as a `to`? Precondition: `can_convert`.
CKPT_EXPORT bool is_exact_cast(Dtype from, Dtype to);

/// Counted over values; both parts of a complex one count on their own.
struct CastTally {
  std::uint64_t values = 0;
  std::uint64_t overflows = 0;   ///< beyond the dtype's numbers; infinities and NaNs that it does not have
  std::uint64_t zeros = 0;       ///< numbers other than 0 that became 0
  std::uint64_t subnormals = 0;  ///< normal numbers that became subnormal ones
  std::uint64_t nans = 0;        ///< NaNs that stay NaNs
  double largest_error = 0;      ///< relative, of values that neither overflow nor become 0
  std::uint64_t first = 0;       ///< index of the first overflow, where there is one
  double first_value = 0;        ///< what it was

  /// Adds the tally of values that begin `offset` values behind the first.
  CKPT_EXPORT void add(const CastTally& other, std::uint64_t offset);
};

/// Counts for one pair of dtypes. Values are little-endian.
class CKPT_EXPORT CastCounter {
 public:
  /// Precondition: `can_convert`, and neither is bool.
  CastCounter(Dtype from, Dtype to);

  /// Precondition: `results` is what `convert` made of `values`.
  CastTally count(ByteView values, ByteView results) const;

  /// Puts the nearest number of the dtype in the place of each result that overflowed; 0 for a NaN.
  /// Precondition: as for `count`.
  void clamp(ByteView values, std::span<std::byte> results) const;

  /// The largest number that there is.
  double largest() const { return largest_; }

  /// The one farthest below zero, or 0.
  double smallest() const { return smallest_; }

 private:
  /// Of source numbers. All of them are float32s where `from` has no more precise ones.
  struct Limits {
    double low = 0;  ///< what is between these two does not overflow
    double high = 0;
    double zero = 0;    ///< magnitudes below become 0
    double normal = 0;  ///< magnitudes below become subnormal or 0
    double lower = 0;   ///< below are those of them that were subnormal before, or become 0
    bool keeps_infinities = false;
  };

  template <typename Real>
  void find_limits();
  template <typename Real>
  CastTally count_reals(ByteView values, ByteView results) const;
  CastTally count_integers(ByteView values, ByteView results) const;
  template <typename Real>
  void clamp_reals(ByteView values, std::span<std::byte> results) const;
  void clamp_integers(ByteView values, std::span<std::byte> results) const;
  bool integer_overflows(const std::byte* value, const std::byte* result) const;

  Dtype from_;  ///< of a part, where the dtype is complex
  Dtype to_;
  std::size_t from_size_;
  std::size_t to_size_;
  bool by_integers_ = false;  ///< both are integers
  bool is_single_ = false;    ///< values of `from` are float32s
  Limits limits_;
  double largest_ = 0;
  double smallest_ = 0;
  Bytes most_;   ///< the largest and
  Bytes least_;  ///< the smallest `to`
};

}  // namespace ckpt
