// SPDX-License-Identifier: BSD-3-Clause
// The two floats of 16 bits: what they mean, and rounding to them (to nearest, ties to even).
#pragma once

#include <bit>
#include <cstdint>

namespace ckpt {

/// IEEE binary16: 5 bits of exponent, 11 of precision.
struct Float16 {
  std::uint16_t bits = 0;

  static constexpr int kPrecision = 11;

  Float16() = default;

  explicit Float16(float value) {
    const auto all = std::bit_cast<std::uint32_t>(value);
    const auto sign = (all >> 16U) & 0x8000U;
    auto size = all & 0x7fffffffU;
    if (size > 0x7f800000U) {
      size = 0x7e00U;  // a NaN
    } else if (size >= 0x47800000U) {
      size = 0x7c00U;  // from 2^16 on infinite
    } else if (size < 0x38800000U) {
      // Below 2^-14 a unit is 2^-24, which is the unit of floats from 0.5 on.
      size = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - 0x3f000000U;
    } else {
      size = (size - (112U << 23U) + 0xfffU + ((size >> 13U) & 1U)) >> 13U;
    }
    bits = static_cast<std::uint16_t>(sign | size);
  }

  /// Without branches, so that loops become vector code: the exponent is moved by a product, which is exact.
  operator float() const {  // NOLINT: every value is a float
    const auto sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16U;
    const auto size = static_cast<std::uint32_t>(bits & 0x7fffU) << 13U;
    const auto moved = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) * 0x1p112F);
    const auto top = size >= 0x0f800000U ? 0x7f800000U : 0U;  // of infinities and NaNs
    return std::bit_cast<float>(sign | moved | top);
  }
};

/// The upper half of a float: 8 bits of exponent, 8 of precision.
struct Bfloat16 {
  std::uint16_t bits = 0;

  static constexpr int kPrecision = 8;

  Bfloat16() = default;

  explicit Bfloat16(float value) {
    auto all = std::bit_cast<std::uint32_t>(value);
    const auto is_nan = (all & 0x7fffffffU) > 0x7f800000U;
    all = is_nan ? 0x7fc00000U : all + 0x7fffU + ((all >> 16U) & 1U);
    bits = static_cast<std::uint16_t>(all >> 16U);
  }

  operator float() const {  // NOLINT: every value is a float
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
  }
};

}  // namespace ckpt
