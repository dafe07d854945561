// SPDX-License-Identifier: BSD-3-Clause
// The floats of 16 and of 8 bits: what they mean, and rounding to them, to nearest, ties to even. NaNs, and
// what becomes of numbers that are too large, are as PyTorch has them on x86-64. Code without branches and
// tables, so that loops become vector code; also for GPUs.
#pragma once

#include <cstdint>

#include "ckpt/compute/host_device.h"

namespace ckpt {

/// std::bit_cast, which device code can't call.
template <typename To, typename From>
CKPT_HOST_DEVICE To bits_as(From value) {
  return __builtin_bit_cast(To, value);
}

/// A format of few bits: a sign, `exponent` and `mantissa` bits.
template <int kExponent, int kMantissa, int kBias>
struct NarrowFormat {
  static constexpr std::uint32_t kSign = 1U << static_cast<unsigned>(kExponent + kMantissa);

  /// The magnitude of a float as bits of the format, as if its exponents had no end. Precondition: `size` are
  /// the bits of a float without sign that is no NaN and less than 2^(128 - bias).
  CKPT_HOST_DEVICE static std::uint32_t rounded(std::uint32_t size) {
    constexpr auto kCut = static_cast<unsigned>(23 - kMantissa);
    constexpr std::uint32_t kSmallestNormal = static_cast<std::uint32_t>(128 - kBias) << 23U;
    // Below the smallest normal number a unit is what it is for floats from this one on.
    constexpr std::uint32_t kAligned = static_cast<std::uint32_t>(127 - kBias + 24 - kMantissa) << 23U;
    const auto subnormal = bits_as<std::uint32_t>(bits_as<float>(size) + bits_as<float>(kAligned)) - kAligned;
    const auto moved = size - (static_cast<std::uint32_t>(127 - kBias) << 23U);
    const auto normal = (moved + ((1U << (kCut - 1)) - 1) + ((size >> kCut) & 1U)) >> kCut;
    return size < kSmallestNormal ? subnormal : normal;
  }

  /// The bits of a float from a magnitude of the format that is finite. The exponent is moved by a product,
  /// which is exact.
  CKPT_HOST_DEVICE static std::uint32_t widened(std::uint32_t size) {
    constexpr std::uint32_t kScale = static_cast<std::uint32_t>(254 - kBias) << 23U;  // 2^(127 - bias)
    const auto small = bits_as<float>(size << static_cast<unsigned>(23 - kMantissa));
    return bits_as<std::uint32_t>(small * bits_as<float>(kScale));
  }
};

/// IEEE binary16: 5 bits of exponent, 11 of precision.
struct Float16 {
  std::uint16_t bits = 0;

  static constexpr int kPrecision = 11;

  Float16() = default;

  /// A NaN keeps its sign and the upper bits of its payload, and is quiet.
  CKPT_HOST_DEVICE explicit Float16(float value) {
    const auto all = bits_as<std::uint32_t>(value);
    const auto size = all & 0x7fffffffU;
    const auto finite = size < 0x47800000U ? Format::rounded(size) : 0x7c00U;  // from 2^16 on infinite
    const auto nan = 0x7e00U | ((size >> 13U) & 0x3ffU);
    bits = static_cast<std::uint16_t>(((all >> 16U) & 0x8000U) | (size > 0x7f800000U ? nan : finite));
  }

  /// NaNs become quiet.
  CKPT_HOST_DEVICE operator float() const {  // NOLINT: every value is a float
    const std::uint32_t size = bits & 0x7fffU;
    const auto top = size >= 0x7c00U ? 0x7f800000U : 0U;  // of infinities and NaNs
    const auto quiet = size > 0x7c00U ? 0x00400000U : 0U;
    const auto sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    return bits_as<float>(sign | Format::widened(size) | top | quiet);
  }

 private:
  using Format = NarrowFormat<5, 10, 15>;
};

/// The upper half of a float: 8 bits of exponent, 8 of precision.
struct Bfloat16 {
  std::uint16_t bits = 0;

  static constexpr int kPrecision = 8;

  Bfloat16() = default;

  /// There is one NaN.
  CKPT_HOST_DEVICE explicit Bfloat16(float value) {
    auto all = bits_as<std::uint32_t>(value);
    const auto is_nan = (all & 0x7fffffffU) > 0x7f800000U;
    all = is_nan ? 0x7fc00000U : all + 0x7fffU + ((all >> 16U) & 1U);
    bits = static_cast<std::uint16_t>(all >> 16U);
  }

  CKPT_HOST_DEVICE operator float() const {  // NOLINT: every value is a float
    return bits_as<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
};

/// A float of 8 bits with NaNs of both signs. `kLast` is its infinity, or else its largest number, and what
/// numbers from `kEnd` (bits of a float) on become.
template <int kExponent, int kMantissa, int kBias, std::uint32_t kEnd, std::uint32_t kLast>
struct Float8 {
  std::uint8_t bits = 0;

  Float8() = default;

  CKPT_HOST_DEVICE explicit Float8(float value) {
    const auto all = bits_as<std::uint32_t>(value);
    const auto size = all & 0x7fffffffU;
    const auto number = size < kEnd ? Format::rounded(size) : kLast;
    bits = static_cast<std::uint8_t>(((all >> 24U) & 0x80U) | (size > 0x7f800000U ? 0x7fU : number));
  }

  CKPT_HOST_DEVICE operator float() const {  // NOLINT: every value is a float
    constexpr bool kHasInfinity = (kLast & ((1U << static_cast<unsigned>(kMantissa)) - 1)) == 0;
    const std::uint32_t size = bits & 0x7fU;
    const auto top = size >= kLast + (kHasInfinity ? 0U : 1U) ? 0x7f800000U : 0U;
    const auto quiet = size > kLast ? 0x00400000U : 0U;
    const auto sign = static_cast<std::uint32_t>(bits & 0x80U) << 24U;
    return bits_as<float>(sign | Format::widened(size) | top | quiet);
  }

 private:
  using Format = NarrowFormat<kExponent, kMantissa, kBias>;
};

/// Without infinities; numbers end at 448. (Up to PyTorch 2.6, at least, what rounds to more than 448 became
/// a NaN.)
using Float8E4m3fn = Float8<4, 3, 7, 0x43e00000U, 0x7eU>;
/// The upper half of a Float16, with its infinities; those begin at 2^16.
using Float8E5m2 = Float8<5, 2, 15, 0x47800000U, 0x7cU>;

/// A float of 8 bits with one zero and one NaN, in the place of -0, which is also what numbers from `kEnd`
/// (bits of a float) on become.
template <int kExponent, int kMantissa, int kBias, std::uint32_t kEnd>
struct Float8Fnuz {
  std::uint8_t bits = 0;

  Float8Fnuz() = default;

  CKPT_HOST_DEVICE explicit Float8Fnuz(float value) {
    const auto all = bits_as<std::uint32_t>(value);
    const auto size = all & 0x7fffffffU;
    const auto rounded = size < kEnd ? Format::rounded(size) : 0x80U;
    bits = static_cast<std::uint8_t>((rounded == 0 ? 0U : (all >> 24U) & 0x80U) | rounded);
  }

  CKPT_HOST_DEVICE operator float() const {  // NOLINT: every value is a float
    const auto sign = static_cast<std::uint32_t>(bits & 0x80U) << 24U;
    return bits_as<float>(bits == 0x80U ? 0x7f800001U : sign | Format::widened(bits & 0x7fU));
  }

 private:
  using Format = NarrowFormat<kExponent, kMantissa, kBias>;
};

using Float8E4m3fnuz = Float8Fnuz<4, 3, 8, 0x43800000U>;   // 256
using Float8E5m2fnuz = Float8Fnuz<5, 2, 16, 0x47800000U>;  // 2^16

/// A power of two from 2^-127 to 2^127, or NaN. It has no sign, and numbers lose theirs.
struct Float8E8m0fnu {
  std::uint8_t bits = 0;

  Float8E8m0fnu() = default;

  /// Half way between two powers is the larger one, except in front of the smallest.
  CKPT_HOST_DEVICE explicit Float8E8m0fnu(float value) {
    const auto size = bits_as<std::uint32_t>(value) & 0x7fffffffU;
    const auto exponent = size >> 23U;
    const auto fraction = size & 0x7fffffU;
    const auto first_above = exponent > 0 ? 0x400000U : 0x400001U;
    const auto up = fraction >= first_above && exponent < 0xffU ? 1U : 0U;
    bits = static_cast<std::uint8_t>(exponent + up);
  }

  CKPT_HOST_DEVICE operator float() const {  // NOLINT: every value is a float
    const auto power = static_cast<std::uint32_t>(bits) << 23U;
    const auto nan_or_power = bits == 0xffU ? 0x7f800001U : power;
    return bits_as<float>(bits == 0 ? 0x00400000U : nan_or_power);
  }
};

}  // namespace ckpt
