// SPDX-License-Identifier: BSD-3-Clause
// Values and what became of them are both read as floats, block by block, and compared with the numbers where
// things begin to happen. Where these lie, casts themselves tell: they are searched for by halves.
#include "ckpt/compute/cast_tally.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/element_types.h"
#include "ckpt/compute/number_ranges.h"

namespace ckpt {
namespace {

constexpr std::size_t kBlock = 2048;  ///< values

template <typename Real>
using Block = std::array<Real, kBlock>;

template <typename Real>
inline constexpr Dtype kDtypeOf = sizeof(Real) == 4 ? Dtype::kFloat32 : Dtype::kFloat64;

bool is_integer(Dtype dtype) {
  return dtype_info(dtype).dtype_class == DtypeClass::kInteger;
}

/// `values`, of which there are as many as `out` holds, as floats.
template <typename Real>
void read(Dtype dtype, ByteView values, std::span<Real> out) {
  convert(dtype, values, kDtypeOf<Real>, std::as_writable_bytes(out).data());
}

/// A number as the dtype has it.
template <typename Real>
Bytes cast(Real number, Dtype to) {
  Bytes out(dtype_info(to).item_size);
  convert(kDtypeOf<Real>, std::as_bytes(std::span(&number, 1)), to, out.data());
  return out;
}

/// The same, read again.
template <typename Real>
Real cast_and_back(Real number, Dtype to) {
  Real out = 0;
  read<Real>(to, cast(number, to), std::span(&out, 1));
  return out;
}

/// The smallest magnitude for which `holds`, infinity if there is none. Precondition: it holds for all above.
template <typename Real, typename Holds>
Real first_magnitude(const Holds& holds) {
  using Unsigned = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  Unsigned low = 0;
  auto high = std::bit_cast<Unsigned>(std::numeric_limits<Real>::infinity());
  while (low < high) {
    const auto middle = low + (high - low) / 2;
    if (holds(std::bit_cast<Real>(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return std::bit_cast<Real>(high);
}

/// The largest number that is truncated to less than `to`, an integer, can hold.
template <typename Real>
Real below_lowest(const NumberRange& to) {
  if (!to.is_signed) return -1;
  const auto lowest = -std::ldexp(Real{1}, to.end);
  const auto below = lowest - 1;
  return below < lowest ? below : std::nextafter(lowest, -std::numeric_limits<Real>::infinity());
}

template <typename Real>
struct Bounds {
  Real low;
  Real high;
  Real zero;
  Real normal;
  Real lower;
  Real least;  ///< magnitudes from here on that do not overflow count for the largest error
};

template <typename Real>
struct Counts {
  using Unsigned = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  Unsigned outside = 0;  ///< not between the bounds, NaNs too
  Unsigned nans = 0;
  Unsigned infinities = 0;
  Unsigned zeros = 0;
  Unsigned below_zero = 0;
  Unsigned below_lower = 0;
  Unsigned below_normal = 0;
  Unsigned error = 0;  ///< bits of the largest
};

/// 1 or 0, without a jump.
template <typename Real>
CKPT_HOST_DEVICE auto one_if(bool holds) {
  return static_cast<typename Counts<Real>::Unsigned>(holds ? 1 : 0);
}

/// How many of the values `holds` is true of.
template <typename Real, typename Holds>
CKPT_HOST_DEVICE auto count_if(const Real* values, std::size_t count, const Holds& holds) {
  typename Counts<Real>::Unsigned found = 0;
  for (std::size_t i = 0; i < count; ++i) found += one_if<Real>(holds(values[i]));
  return found;
}

template <typename Real>
CKPT_HOST_DEVICE Real magnitude(Real value) {
  using Unsigned = typename Counts<Real>::Unsigned;
  return bits_as<Real>(bits_as<Unsigned>(value) & (~Unsigned{0} >> 1U));
}

/// The largest relative error, as bits: those of positive floats are in their order.
template <typename Real>
CKPT_HOST_DEVICE auto largest_error(const Real* values, const Real* results, std::size_t count, Real least,
                                    Real low, Real high) {
  using Signed = std::make_signed_t<typename Counts<Real>::Unsigned>;
  Signed largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto value = values[i];
    const auto error = magnitude((results[i] - value) / value);
    const auto counts =
        one_if<Real>(value > low) & one_if<Real>(value < high) & one_if<Real>(magnitude(value) >= least);
    const auto bits = counts != 0 ? bits_as<Signed>(error) : 0;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <typename Real>
CKPT_HOST_DEVICE Counts<Real> look(const Real* values, const Real* results, std::size_t count,
                                   const Bounds<Real>& bounds) {
  const auto [low, high, zero, normal, lower, least] = bounds;
  constexpr auto kInfinity = std::numeric_limits<Real>::infinity();
  Counts<Real> out;
  const auto above_low = count_if(values, count, [low = low](Real value) { return value > low; });
  const auto from_high = count_if(values, count, [high = high](Real value) { return value >= high; });
  out.outside = static_cast<typename Counts<Real>::Unsigned>(count) - above_low + from_high;
  out.nans = count_if(values, count, [](Real value) { return value != value; });
  out.infinities = count_if(values, count, [=](Real value) { return magnitude(value) == kInfinity; });
  out.zeros = count_if(values, count, [](Real value) { return value == 0; });
  out.below_zero = count_if(values, count, [zero = zero](Real value) { return magnitude(value) < zero; });
  out.below_lower = count_if(values, count, [lower = lower](Real value) { return magnitude(value) < lower; });
  out.below_normal =
      count_if(values, count, [normal = normal](Real value) { return magnitude(value) < normal; });
  out.error =
      static_cast<typename Counts<Real>::Unsigned>(largest_error(values, results, count, least, low, high));
  return out;
}

#ifdef __x86_64__
// The same code for twice as wide a vector unit.
template <typename Real>
__attribute__((target("avx2"))) Counts<Real> look_widely(const Real* values, const Real* results,
                                                         std::size_t count, const Bounds<Real>& bounds) {
  return look(values, results, count, bounds);
}
#endif

template <typename Real>
Counts<Real> look_at(const Real* values, const Real* results, std::size_t count, const Bounds<Real>& bounds) {
#ifdef __x86_64__
  static const bool is_wide = __builtin_cpu_supports("avx2") != 0;
  if (is_wide) return look_widely(values, results, count, bounds);
#endif
  return look(values, results, count, bounds);
}

}  // namespace

bool is_exact_cast(Dtype from, Dtype to) {
  if (from == to) return true;
  return to != Dtype::kFloat8E8m0fnu && to != Dtype::kBool && contains(number_range(to), number_range(from));
}

void CastTally::add(const CastTally& other, std::uint64_t offset) {
  const auto theirs = offset + other.first;
  if (other.overflows > 0 && (overflows == 0 || theirs < first)) {
    first = theirs;
    first_value = other.first_value;
  }
  values += other.values;
  overflows += other.overflows;
  zeros += other.zeros;
  subnormals += other.subnormals;
  nans += other.nans;
  largest_error = std::max(largest_error, other.largest_error);
}

CastCounter::CastCounter(Dtype from, Dtype to)
    : from_(part_dtype(from)),
      to_(part_dtype(to)),
      from_size_(dtype_info(from_).item_size),
      to_size_(dtype_info(to_).item_size),
      by_integers_(is_integer(from_) && is_integer(to_)),
      is_single_(!by_integers_ && contains(number_range(Dtype::kFloat32), number_range(from_))) {
  if (is_single_) {
    find_limits<float>();
  } else {
    find_limits<double>();
  }
}

template <typename Real>
void CastCounter::find_limits() {
  const auto from = number_range(from_);
  const auto to = number_range(to_);
  if (is_integer(to_)) {
    largest_ = std::ldexp(1.0, to.end) - 1;
    smallest_ = to.is_signed ? -std::ldexp(1.0, to.end) : 0;
    limits_ = {below_lowest<Real>(to), std::ldexp(Real{1}, to.end), 1, 0, 0, false};
    most_.assign(to_size_, std::byte{0xff});
    least_.assign(to_size_, std::byte{0});
    if (to.is_signed) most_.back() = std::byte{0x7f};
    if (to.is_signed) least_.back() = std::byte{0x80};
    return;
  }
  largest_ = std::ldexp(2 - std::ldexp(1.0, 1 - to.precision), to.end - 1);
  if (to_ == Dtype::kFloat8E4m3fn) largest_ = 448;  // the bits of 480 are the NaN's
  smallest_ = to.is_signed ? -largest_ : 0;
  constexpr float kFirstAboveE4m3fn = 464;  // half way to 480
  const auto overflows = [&](Real size) {
    if (to_ == Dtype::kFloat8E4m3fn) return static_cast<float>(size) > kFirstAboveE4m3fn;
    return !std::isfinite(cast_and_back(size, to_));
  };
  const auto high = first_magnitude<Real>(overflows);
  const auto normal = static_cast<Real>(smallest_normal(to));
  limits_.high = high;
  limits_.low = to.is_signed ? -high : -std::numeric_limits<Real>::denorm_min();
  limits_.keeps_infinities = to.has_infinities;
  limits_.zero = first_magnitude<Real>([&](Real size) { return cast_and_back(size, to_) != 0; });
  limits_.normal = first_magnitude<Real>([&](Real size) { return !(cast_and_back(size, to_) < normal); });
  limits_.lower = std::clamp(smallest_normal(from), limits_.zero, std::max(limits_.zero, limits_.normal));
  const auto largest = std::nextafter(high, Real{0});
  most_ = cast(largest, to_);
  least_ = cast(to.is_signed ? -largest : Real{0}, to_);
}

CastTally CastCounter::count(ByteView values, ByteView results) const {
  if (by_integers_) return count_integers(values, results);
  return is_single_ ? count_reals<float>(values, results) : count_reals<double>(values, results);
}

void CastCounter::clamp(ByteView values, std::span<std::byte> results) const {
  if (by_integers_) return clamp_integers(values, results);
  if (is_single_) return clamp_reals<float>(values, results);
  clamp_reals<double>(values, results);
}

template <typename Real>
CastTally CastCounter::count_reals(ByteView values, ByteView results) const {
  Block<Real> before;
  Block<Real> after;
  const auto smallest = std::numeric_limits<Real>::denorm_min();
  const Bounds<Real> bounds = {
      static_cast<Real>(limits_.low),   static_cast<Real>(limits_.high),
      static_cast<Real>(limits_.zero),  static_cast<Real>(limits_.normal),
      static_cast<Real>(limits_.lower), std::max(static_cast<Real>(limits_.zero), smallest)};
  const bool keeps_nans = number_range(to_).has_nans;
  CastTally tally;
  const auto total = values.size() / from_size_;
  for (std::size_t done = 0; done < total; done += kBlock) {
    const auto count = std::min(kBlock, total - done);
    read<Real>(from_, values.subspan(done * from_size_, count * from_size_), std::span(before).first(count));
    read<Real>(to_, results.subspan(done * to_size_, count * to_size_), std::span(after).first(count));
    const auto found = look_at(before.data(), after.data(), count, bounds);
    CastTally block;
    block.values = count;
    block.nans = keeps_nans ? found.nans : 0;
    block.overflows = found.outside - block.nans - (limits_.keeps_infinities ? found.infinities : 0);
    block.zeros = found.below_zero > 0 ? found.below_zero - found.zeros : 0;
    block.subnormals = found.below_normal > found.below_lower ? found.below_normal - found.below_lower : 0;
    block.largest_error = static_cast<double>(std::bit_cast<Real>(found.error));
    for (std::size_t i = 0; block.overflows > 0 && i < count; ++i) {
      const auto value = before[i];
      if (value > bounds.low && value < bounds.high) continue;
      if (std::isnan(value) ? keeps_nans : std::isinf(value) && limits_.keeps_infinities) continue;
      block.first = i;
      block.first_value = static_cast<double>(value);
      break;
    }
    tally.add(block, done);
  }
  return tally;
}

template <typename Real>
void CastCounter::clamp_reals(ByteView values, std::span<std::byte> results) const {
  const Bytes zero(to_size_);
  const bool keeps_nans = number_range(to_).has_nans;
  Block<Real> block;
  const auto total = values.size() / from_size_;
  for (std::size_t done = 0; done < total; done += kBlock) {
    const auto count = std::min(kBlock, total - done);
    read<Real>(from_, values.subspan(done * from_size_, count * from_size_), std::span(block).first(count));
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = block[i];
      if (value > limits_.low && value < limits_.high) continue;
      if (std::isnan(value) ? keeps_nans : std::isinf(value) && limits_.keeps_infinities) continue;
      const auto& nearest = std::isnan(value) ? zero : value > 0 ? most_ : least_;
      std::copy(nearest.begin(), nearest.end(),
                results.begin() + static_cast<std::ptrdiff_t>((done + i) * to_size_));
    }
  }
}

/// Both ways give the number only if there is one; and what has another sign is another number.
bool CastCounter::integer_overflows(const std::byte* value, const std::byte* result) const {
  const auto is_negative = [](Dtype dtype, const std::byte* number) {
    const auto range = number_range(dtype);
    return range.is_signed && (number[dtype_info(dtype).item_size - 1] & std::byte{0x80}) != std::byte{0};
  };
  if (is_negative(from_, value) != is_negative(to_, result)) return true;
  std::array<std::byte, 8> back{};
  convert(to_, {result, to_size_}, from_, back.data());
  return !std::equal(value, value + from_size_, back.begin());
}

CastTally CastCounter::count_integers(ByteView values, ByteView results) const {
  CastTally tally;
  tally.values = values.size() / from_size_;
  for (std::size_t i = 0; i < tally.values; ++i) {
    const auto* value = values.data() + i * from_size_;
    if (!integer_overflows(value, results.data() + i * to_size_)) continue;
    if (tally.overflows++ > 0) continue;
    tally.first = i;
    read<double>(from_, {value, from_size_}, std::span(&tally.first_value, 1));
  }
  return tally;
}

void CastCounter::clamp_integers(ByteView values, std::span<std::byte> results) const {
  for (std::size_t i = 0; i < values.size() / from_size_; ++i) {
    const auto* value = values.data() + i * from_size_;
    auto* result = results.data() + i * to_size_;
    if (!integer_overflows(value, result)) continue;
    double number = 0;
    read<double>(from_, {value, from_size_}, std::span(&number, 1));
    const auto& nearest = number > 0 ? most_ : least_;
    std::copy(nearest.begin(), nearest.end(), result);
  }
}

}  // namespace ckpt
