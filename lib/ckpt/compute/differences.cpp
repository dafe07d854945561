// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/differences.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/element_types.h"

namespace ckpt {
namespace {

constexpr std::size_t kBlock = 2048;  ///< numbers; those of both sides fit a near cache
constexpr std::size_t kLanes = 8;     ///< sums that are kept side by side
constexpr int kScaleBits = 600;       ///< of a step of ScaledSum::scale

using Block = std::array<double, kBlock>;
using Lanes = std::array<double, kLanes>;

double sum_of(const Lanes& lanes) {
  double sum = 0;
  for (const auto lane : lanes) sum += lane;
  return sum;
}

/// Sums over pairs of numbers that are all finite. What lies behind the last pair, up to a whole row of
/// lanes, is 0.
Differences of_finite(const Block& file, const Block& base, std::size_t count) {
  Lanes squares{};
  Lanes file_squares{};
  Lanes base_squares{};
  Lanes products{};
  Lanes largest{};
  for (std::size_t i = 0; i < count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const auto x = file[i + lane];
      const auto b = base[i + lane];
      const auto distance = std::abs(x - b);
      largest[lane] = distance > largest[lane] ? distance : largest[lane];
      squares[lane] += distance * distance;
      file_squares[lane] += x * x;
      base_squares[lane] += b * b;
      products[lane] += x * b;
    }
  }
  Differences out;
  out.largest = *std::max_element(largest.begin(), largest.end());
  out.squares.value = sum_of(squares);
  out.file_squares.value = sum_of(file_squares);
  out.base_squares.value = sum_of(base_squares);
  out.products.value = sum_of(products);
  return out;
}

/// Is a sum of squares neither infinite nor made of squares that have become 0?
bool is_in_range(const ScaledSum& sum) {
  return sum.value > 0x1p-900 && std::isfinite(sum.value);
}

/// At which numbers up to `largest` have squares that can be added up.
int scale_for(double largest) {
  if (largest > 0x1p500) return 1;
  return largest > 0 && largest < 0x1p-450 ? -1 : 0;
}

double largest_of(const Block& numbers, std::size_t count) {
  double largest = 0;
  for (std::size_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(numbers[i]));
  return largest;
}

/// As `of_finite`, whose `found` has sums that are out of range.
Differences of_extreme(const Block& file, const Block& base, std::size_t count, const Differences& found) {
  const auto scale = scale_for(found.largest);
  const auto file_scale = scale_for(largest_of(file, count));
  const auto base_scale = scale_for(largest_of(base, count));
  const auto unit = std::ldexp(1.0, -kScaleBits * scale);
  const auto file_unit = std::ldexp(1.0, -kScaleBits * file_scale);
  const auto base_unit = std::ldexp(1.0, -kScaleBits * base_scale);
  Differences out;
  out.largest = found.largest;
  out.squares.scale = 2 * scale;
  out.file_squares.scale = 2 * file_scale;
  out.base_squares.scale = 2 * base_scale;
  out.products.scale = file_scale + base_scale;
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = file[i] * file_unit;
    const auto b = base[i] * base_unit;
    const auto distance = scale > 0 ? file[i] * unit - base[i] * unit : (file[i] - base[i]) * unit;
    out.squares.value += distance * distance;
    out.file_squares.value += x * x;
    out.base_squares.value += b * b;
    out.products.value += x * b;
  }
  return out;
}

double value_at(int scale, const ScaledSum& sum) {
  return sum.scale == scale ? sum.value : std::ldexp(sum.value, kScaleBits * (sum.scale - scale));
}

void add(ScaledSum& sum, const ScaledSum& next) {
  if (next.value == 0) return;
  if (sum.value == 0) sum.scale = next.scale;
  auto scale = std::max(sum.scale, next.scale);
  auto value = value_at(scale, sum) + value_at(scale, next);
  if (!std::isfinite(value)) {
    ++scale;
    value = value_at(scale, sum) + value_at(scale, next);
  }
  sum = {value, scale};
}

/// Of integers beyond 2^53 the distance is taken before it becomes a float.
template <typename Integer>
double largest_distance(ByteView file, ByteView base) {
  double largest = 0;
  for (std::size_t at = 0; at < file.size(); at += sizeof(Integer)) {
    Integer x;
    Integer b;
    std::memcpy(&x, file.data() + at, sizeof x);
    std::memcpy(&b, base.data() + at, sizeof b);
    const auto distance = x > b ? static_cast<std::uint64_t>(x) - static_cast<std::uint64_t>(b)
                                : static_cast<std::uint64_t>(b) - static_cast<std::uint64_t>(x);
    largest = std::max(largest, static_cast<double>(distance));
  }
  return largest;
}

/// A block of pairs as numbers.
class Pairs {
 public:
  Pairs(Dtype part, ByteView file, ByteView base, std::size_t numbers) : numbers_(numbers) {
    decode(part, file, file_);
    decode(part, base, base_);
  }

  /// `parts`: numbers of a value.
  Differences sums(std::size_t parts) {
    const auto excluded = leave_out_what_is_not_finite(parts);
    auto out = of_finite(file_, base_, numbers_);
    const bool in_range = is_in_range(out.file_squares) && is_in_range(out.base_squares) &&
                          (out.largest == 0 || is_in_range(out.squares));
    if (!in_range) out = of_extreme(file_, base_, numbers_, out);
    if (parts == 2) out.largest = largest_modulus();
    out.count = numbers_ / parts;
    out.not_finite = excluded;
    return out;
  }

 private:
  void decode(Dtype part, ByteView values, Block& out) const {
    convert(part, values, Dtype::kFloat64, std::as_writable_bytes(std::span(out)).data());
    const auto end = std::min(kBlock, (numbers_ + kLanes - 1) / kLanes * kLanes);
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(numbers_),
              out.begin() + static_cast<std::ptrdiff_t>(end), 0.0);
  }

  std::uint64_t leave_out_what_is_not_finite(std::size_t parts) {
    double odd = 0;  // 0 times a number that is finite is 0
    for (std::size_t i = 0; i < numbers_; ++i) odd += 0 * file_[i] + 0 * base_[i];
    if (odd == 0) return 0;
    std::uint64_t excluded = 0;
    for (std::size_t i = 0; i < numbers_; i += parts) {
      bool finite = true;
      for (std::size_t j = i; j < i + parts; ++j)
        finite = finite && std::isfinite(file_[j]) && std::isfinite(base_[j]);
      if (finite) continue;
      ++excluded;
      for (std::size_t j = i; j < i + parts; ++j) file_[j] = base_[j] = 0;
    }
    return excluded;
  }

  double largest_modulus() const {
    double largest = 0;
    for (std::size_t i = 0; i < numbers_; i += 2)
      largest = std::max(largest, std::hypot(file_[i] - base_[i], file_[i + 1] - base_[i + 1]));
    return largest;
  }

  std::size_t numbers_;
  Block file_;
  Block base_;
};

}  // namespace

std::optional<double> Differences::relative_norm() const {
  if (base_squares.value == 0) return squares.value > 0 ? std::nullopt : std::optional<double>(0);
  return std::ldexp(std::sqrt(squares.value) / std::sqrt(base_squares.value),
                    kScaleBits / 2 * (squares.scale - base_squares.scale));
}

std::optional<double> Differences::cosine() const {
  if (base_squares.value == 0 || file_squares.value == 0) return std::nullopt;
  const auto norms = std::sqrt(base_squares.value) * std::sqrt(file_squares.value);
  const auto scale = 2 * products.scale - base_squares.scale - file_squares.scale;
  return std::clamp(std::ldexp(products.value / norms, kScaleBits / 2 * scale), -1.0, 1.0);
}

bool has_differences(Dtype dtype) {
  return dtype_info(dtype).bits >= 8 && can_convert(part_dtype(dtype), Dtype::kFloat64);
}

Differences differences_of(Dtype dtype, ByteView file, ByteView base) {
  const std::size_t parts = dtype_info(dtype).dtype_class == DtypeClass::kComplex ? 2 : 1;
  const auto part = part_dtype(dtype);
  const auto item = dtype_info(part).item_size;
  Differences sum;
  for (std::size_t at = 0; at < file.size(); at += kBlock * item) {
    const auto size = std::min(kBlock * item, file.size() - at);
    Pairs pairs(part, file.subspan(at, size), base.subspan(at, size), size / item);
    add_differences(sum, pairs.sums(parts));
  }
  if (dtype == Dtype::kInt64) sum.largest = largest_distance<std::int64_t>(file, base);
  if (dtype == Dtype::kUint64) sum.largest = largest_distance<std::uint64_t>(file, base);
  return sum;
}

void add_differences(Differences& sum, const Differences& next) {
  sum.count += next.count;
  sum.not_finite += next.not_finite;
  sum.largest = std::max(sum.largest, next.largest);
  add(sum.squares, next.squares);
  add(sum.base_squares, next.base_squares);
  add(sum.file_squares, next.file_squares);
  add(sum.products, next.products);
}

}  // namespace ckpt
