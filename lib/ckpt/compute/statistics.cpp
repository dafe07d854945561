// SPDX-License-Identifier: BSD-3-Clause
// Loops are short and do one thing each, over values in the processor's nearest cache: so compilers turn them
// into vector code of any width, and sums are added in the same order everywhere.
#include "ckpt/compute/statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ckpt/compute/element_types.h"
#include "ckpt/compute/number_ranges.h"

// In each of the functions that are made for a vector unit.
#define CKPT_INLINED inline __attribute__((always_inline))

namespace ckpt {
namespace {

constexpr std::size_t kBlock = 4096;  ///< values
constexpr std::size_t kLanes = 8;     ///< sums that are kept side by side

template <typename Number>
using Block = std::array<Number, kBlock>;

// ---- moments

constexpr std::size_t kSamples = 64;  ///< values

/// About the mean: of some values spread over the block, without digits that values don't have. A block of
/// equal values has exactly that one.
template <typename Number>
double rough_mean(std::span<const Number> values) {
  std::array<double, kSamples> sums;
  for (std::size_t i = 0; i < kSamples; ++i)
    sums[i] = static_cast<double>(values[i * values.size() / kSamples]) / kSamples;
  for (auto count = kSamples / 2; count > 0; count /= 2) {  // pairs of equal numbers have exact sums
    for (std::size_t i = 0; i < count; ++i) sums[i] += sums[i + count];
  }
  if constexpr (std::is_integral_v<Number>) return std::nearbyint(sums[0]);
  return static_cast<double>(static_cast<Number>(sums[0]));
}

/// Distances from a centre and their squares give both moments in one pass. The mean of 64 of 4096 values is
/// never farther from that of all than 8 standard deviations, so the difference costs 6 bits at most.
template <typename Number>
CKPT_INLINED void set_moments(Statistics& out, std::span<const Number> finite) {
  if (finite.empty()) return;
  const auto centre = rough_mean(finite);
  std::array<double, kLanes> sums{};
  std::array<double, kLanes> squares{};
  const auto add = [&](std::size_t lane, Number value) __attribute__((always_inline)) {
    const auto distance = static_cast<double>(value) - centre;
    sums[lane] += distance;
    squares[lane] += distance * distance;
  };
  const auto whole = finite.size() / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) add(lane, finite[i + lane]);
  }
  for (std::size_t i = whole; i < finite.size(); ++i) add(i - whole, finite[i]);
  double sum = 0;
  double square = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    sum += sums[lane];
    square += squares[lane];
  }
  const auto distance = sum / static_cast<double>(finite.size());
  out.mean = centre + distance;
  out.squares = std::max(square - sum * distance, 0.0);
}

// ---- floats

template <typename Real>
struct RealBits {
  using Unsigned = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  using Signed = std::make_signed_t<Unsigned>;
  static constexpr auto kMagnitude = std::numeric_limits<Signed>::max();
  static constexpr auto kInfinity = std::bit_cast<Signed>(std::numeric_limits<Real>::infinity());

  /// Integers in the order of the numbers; -0 comes before 0.
  CKPT_INLINED static Signed ordered(Signed bits) {
    return bits ^ ((bits >> (8 * sizeof(Real) - 1)) & kMagnitude);
  }
};

template <typename Real>
struct Extremes {
  using Signed = typename RealBits<Real>::Signed;

  Signed low = std::numeric_limits<Signed>::max();    ///< in order
  Signed high = std::numeric_limits<Signed>::min();   ///< in order
  Signed least = std::numeric_limits<Signed>::max();  ///< without signs

  bool are_finite() const {
    const auto minus_infinity = std::bit_cast<Signed>(-std::numeric_limits<Real>::infinity());
    return high < RealBits<Real>::kInfinity && low > RealBits<Real>::ordered(minus_infinity);
  }
};

template <typename Real>
CKPT_INLINED Extremes<Real> extremes_of(std::span<const Real> values) {
  using Bits = RealBits<Real>;
  Extremes<Real> out;
  for (const auto value : values) {
    const auto bits = std::bit_cast<typename Bits::Signed>(value);
    const auto magnitude = bits & Bits::kMagnitude;
    const auto ordered = Bits::ordered(bits);
    out.low = ordered < out.low ? ordered : out.low;
    out.high = ordered > out.high ? ordered : out.high;
    out.least = magnitude < out.least ? magnitude : out.least;
  }
  return out;
}

template <typename Real>
CKPT_INLINED void count_small(Statistics& out, std::span<const Real> values, Real smallest_normal) {
  using Bits = RealBits<Real>;
  const auto smallest = std::bit_cast<typename Bits::Signed>(smallest_normal);
  typename Bits::Unsigned zeros = 0;
  typename Bits::Unsigned small = 0;
  for (const auto value : values) {
    const auto magnitude = std::bit_cast<typename Bits::Signed>(value) & Bits::kMagnitude;
    zeros += magnitude == 0 ? 1 : 0;
    small += magnitude < smallest ? 1 : 0;
  }
  out.zeros = zeros;
  out.subnormals = small - zeros;
}

/// Of finite values.
template <typename Real>
CKPT_INLINED void set_all(Statistics& out, std::span<const Real> values, const Extremes<Real>& extremes,
                          Real smallest_normal) {
  using Bits = RealBits<Real>;
  out.minimum = static_cast<double>(std::bit_cast<Real>(Bits::ordered(extremes.low)));
  out.maximum = static_cast<double>(std::bit_cast<Real>(Bits::ordered(extremes.high)));
  if (std::bit_cast<Real>(extremes.least) < smallest_normal) count_small(out, values, smallest_normal);
  set_moments(out, values);
}

/// Some are infinite or no numbers.
template <typename Real>
Statistics look_at_odd(std::span<const Real> values, Real smallest_normal) {
  Block<Real> numbers;
  std::size_t finite = 0;
  Statistics out;
  for (const auto value : values) {
    if (std::isfinite(value)) numbers[finite++] = value;
    if (std::isnan(value)) ++out.nans;
  }
  const auto kept = std::span<const Real>(numbers).first(finite);
  out.count = values.size();
  out.infinities = values.size() - finite - out.nans;
  if (finite > 0) set_all(out, kept, extremes_of(kept), smallest_normal);
  for (const auto value : values) {
    if (!std::isinf(value)) continue;
    const auto extreme = static_cast<double>(value);
    if (value < 0 || !out.minimum) out.minimum = extreme;
    if (value > 0 || !out.maximum) out.maximum = extreme;
  }
  return out;
}

template <typename Real>
CKPT_INLINED Statistics look_at_reals(std::span<const Real> values, Real smallest_normal) {
  const auto extremes = extremes_of(values);
  if (!extremes.are_finite()) return look_at_odd(values, smallest_normal);
  Statistics out;
  out.count = values.size();
  set_all(out, values, extremes, smallest_normal);
  return out;
}

#ifdef __x86_64__
// The same code for twice as wide a vector unit, without products that are added unrounded.
template <typename Real>
__attribute__((target("avx2"))) Statistics look_at_widely(std::span<const Real> values,
                                                          Real smallest_normal) {
  return look_at_reals(values, smallest_normal);
}
#endif

template <typename Real>
Statistics look_at_closely(std::span<const Real> values, Real smallest_normal) {
#ifdef __x86_64__
  static const bool is_wide = __builtin_cpu_supports("avx2") != 0;
  if (is_wide) return look_at_widely(values, smallest_normal);
#endif
  return look_at_reals(values, smallest_normal);
}

/// Of values whose squares are too large for a float64.
template <typename Real>
void set_far_moments(Statistics& out, std::span<const Real> values) {
  const auto count = static_cast<double>(out.finite());
  out.mean = out.squares = 0;
  for (const auto value : values) {
    if (std::isfinite(value)) out.mean += static_cast<double>(value) / count;
  }
  for (const auto value : values) {
    const auto distance = static_cast<double>(value) - out.mean;
    if (std::isfinite(value)) out.squares += distance * distance;
  }
}

template <typename Real>
Statistics look_at(std::span<const Real> values, Real smallest_normal) {
  auto found = look_at_closely(values, smallest_normal);
  if (!std::isfinite(found.squares)) set_far_moments(found, values);
  return found;
}

// ---- integers

template <typename Integer>
Statistics look_at_integers(std::span<const Integer> values) {
  using Widest = std::conditional_t<std::is_signed_v<Integer>, std::int64_t, std::uint64_t>;
  std::size_t zeros = 0;
  auto low = std::numeric_limits<Integer>::max();
  auto high = std::numeric_limits<Integer>::min();
  for (const auto value : values) {
    zeros += value == 0 ? 1 : 0;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  Statistics out;
  out.count = values.size();
  out.zeros = zeros;
  out.minimum = static_cast<Widest>(low);
  out.maximum = static_cast<Widest>(high);
  set_moments(out, values);
  return out;
}

// ---- values as they lie in memory

/// Calls `look(block)` with the numbers of each block, decoded by `decode(item)`.
template <typename Item, typename Decode, typename Look>
void in_blocks(std::span<const std::byte> bytes, const Decode& decode, const Look& look) {
  using Number = decltype(decode(Item{}));
  Block<Number> numbers;
  for (std::size_t done = 0; done < bytes.size();) {
    const auto count = std::min(kBlock, (bytes.size() - done) / sizeof(Item));
    for (std::size_t i = 0; i < count; ++i) {
      Item item;
      std::memcpy(&item, bytes.data() + done + i * sizeof(Item), sizeof item);
      numbers[i] = decode(item);
    }
    look(std::span<const Number>(numbers).first(count));
    done += count * sizeof(Item);
  }
}

/// Floats of eight bits by their bits: to look them up is quicker here than to compute them.
struct Float8Values {
  std::array<float, 256> values;

  template <typename Item>
  static Float8Values of(Item item) {
    Float8Values out;
    for (std::size_t bits = 0; bits < out.values.size(); ++bits) {
      item.bits = static_cast<std::uint8_t>(bits);
      out.values[bits] = item;
    }
    return out;
  }

  float operator()(std::uint8_t bits) const { return values[bits]; }
};

/// `with_reals(block)` or `with_integers(block)` for each block of real values.
template <typename WithReals, typename WithIntegers>
void for_blocks(Dtype dtype, std::span<const std::byte> bytes, const WithReals& with_reals,
                const WithIntegers& with_integers) {
  with_real_element(dtype, [&](auto element) {
    using Item = decltype(element);
    const auto decode = [](Item item) { return number_of(item); };
    if constexpr (std::is_integral_v<decltype(number_of(element))>) {
      in_blocks<Item>(bytes, decode, with_integers);
    } else if constexpr (sizeof(Item) == 1) {
      in_blocks<std::uint8_t>(bytes, Float8Values::of(element), with_reals);
    } else {
      in_blocks<Item>(bytes, decode, with_reals);
    }
  });
}

/// Of pairs of reals: only what counts.
template <typename Real>
void look_at_pairs(Statistics& sum, std::span<const Real> values) {
  sum.is_real = false;
  for (std::size_t i = 0; i + 1 < values.size(); i += 2) {
    const auto real = values[i];
    const auto imaginary = values[i + 1];
    ++sum.count;
    if (std::isnan(real) || std::isnan(imaginary)) {
      ++sum.nans;
    } else if (std::isinf(real) || std::isinf(imaginary)) {
      ++sum.infinities;
    } else if (real == 0 && imaginary == 0) {
      ++sum.zeros;
    }
  }
}

}  // namespace

double as_double(const StatisticsValue& value) {
  return std::visit([](auto number) { return static_cast<double>(number); }, value);
}

double Statistics::standard_deviation() const {
  return std::sqrt(squares / static_cast<double>(finite() - 1));
}

bool has_statistics(Dtype dtype) {
  const auto& info = dtype_info(dtype);
  switch (info.dtype_class) {
    case DtypeClass::kFloat: return info.bits >= 8;
    case DtypeClass::kComplex:
    case DtypeClass::kInteger:
    case DtypeClass::kBool: return true;
    case DtypeClass::kQuantized:
    case DtypeClass::kBits: return false;
  }
  return false;
}

Statistics statistics_of(Dtype dtype, std::span<const std::byte> values) {
  Statistics sum;
  if (dtype_info(dtype).dtype_class == DtypeClass::kComplex) {
    sum.is_real = false;
    const auto look = [&](auto block) { look_at_pairs(sum, block); };
    for_blocks(part_dtype(dtype), values, look, [](auto) {});
    return sum;
  }
  const auto smallest = smallest_normal(number_range(dtype));
  const auto with_reals = [&]<typename Real>(std::span<const Real> block) {
    add_statistics(sum, look_at(block, static_cast<Real>(smallest)));
  };
  const auto with_integers = [&](auto block) { add_statistics(sum, look_at_integers(block)); };
  for_blocks(dtype, values, with_reals, with_integers);
  return sum;
}

/// Source of the moments' sum: Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for
/// computing sample variances, 1979.
void add_statistics(Statistics& sum, const Statistics& next) {
  if (next.finite() > 0) {
    const auto before = static_cast<double>(sum.finite());
    const auto more = static_cast<double>(next.finite());
    const auto distance = next.mean - sum.mean;
    if (sum.finite() == 0) {
      sum.mean = next.mean;
      sum.squares = next.squares;
    } else {
      sum.mean += distance * (more / (before + more));
      sum.squares += next.squares + distance * distance * (before * more / (before + more));
    }
  }
  sum.count += next.count;
  sum.zeros += next.zeros;
  sum.nans += next.nans;
  sum.infinities += next.infinities;
  sum.subnormals += next.subnormals;
  sum.is_real = sum.is_real && next.is_real;
  if (next.minimum && (!sum.minimum || *next.minimum < *sum.minimum)) sum.minimum = next.minimum;
  if (next.maximum && (!sum.maximum || *next.maximum > *sum.maximum)) sum.maximum = next.maximum;
}

void repeat_statistics(Statistics& values, std::uint64_t times) {
  values.count *= times;
  values.zeros *= times;
  values.nans *= times;
  values.infinities *= times;
  values.subnormals *= times;
  values.squares *= static_cast<double>(times);
}

void negate_statistics(Statistics& values) {
  std::swap(values.minimum, values.maximum);
  for (auto* extreme : {&values.minimum, &values.maximum}) {
    if (*extreme) *extreme = -as_double(**extreme);
  }
  values.mean = -values.mean;
}

Histogram::Histogram(double low, double high, std::size_t bins) : low_(low), high_(high), counts_(bins) {
  if (low < high) return;
  constexpr auto kInfinity = std::numeric_limits<double>::infinity();
  constexpr auto kLargest = std::numeric_limits<double>::max();
  low_ = std::max(std::min(low - 1, std::nextafter(low, -kInfinity)), -kLargest);
  high_ = std::min(std::max(high + 1, std::nextafter(high, kInfinity)), kLargest);
}

void Histogram::add(Dtype dtype, std::span<const std::byte> values, bool negated) {
  const auto bins = static_cast<double>(counts_.size());
  // A power of two, with which neither the width nor what it divides is infinite.
  double unit = 1;
  if (std::isinf(high_ - low_)) unit = 0.5;
  if (std::isinf(bins / (high_ - low_))) unit = 0x1p200;
  const auto low = low_ * unit;
  const auto scale = bins / (high_ * unit - low);
  const auto sort = [&](auto block) {
    for (const auto number : block) {
      const auto value = negated ? -static_cast<double>(number) : static_cast<double>(number);
      if (!(value >= low_ && value <= high_)) continue;
      const auto bin = std::min((value * unit - low) * scale, bins - 1);
      ++counts_[static_cast<std::size_t>(bin)];
    }
  };
  for_blocks(dtype, values, sort, sort);
}

void Histogram::add(const Histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

}  // namespace ckpt
