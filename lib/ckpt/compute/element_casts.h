// SPDX-License-Identifier: BSD-3-Clause
// One element of a dtype as an element of another, with the bits that `tensor.to(dtype)` of PyTorch 2.15
// gives for a contiguous tensor on an x86-64 processor with AVX2. Where PyTorch itself is of two minds (NaNs,
// and floats that no uint32 can hold, differ between its scalar and its vector code), this is its vector
// code. Written for loops that become vector code, and for GPUs.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ckpt/compute/host_device.h"
#include "ckpt/compute/narrow_floats.h"

namespace ckpt {

/// A bool as it is stored. Any byte but 0 is true.
struct StoredBool {
  std::uint8_t byte = 0;
};

/// float64 to float32, whose NaN keeps sign and upper payload and is quiet; processors and GPUs differ there.
CKPT_HOST_DEVICE float narrowed(double value) {
  const auto bits = bits_as<std::uint64_t>(value);
  const auto nan = static_cast<std::uint32_t>(bits >> 32U & 0x80000000U) | 0x7fc00000U |
                   static_cast<std::uint32_t>(bits >> 29U & 0x3fffffU);
  const auto number = bits_as<std::uint32_t>(static_cast<float>(value));
  return bits_as<float>(value != value ? nan : number);
}

/// float32 to float64, likewise.
CKPT_HOST_DEVICE double doubled(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  const auto nan = static_cast<std::uint64_t>(bits & 0x80000000U) << 32U | 0x7ff8000000000000U |
                   static_cast<std::uint64_t>(bits & 0x3fffffU) << 29U;
  const auto number = bits_as<std::uint64_t>(static_cast<double>(value));
  return bits_as<double>(value != value ? nan : number);
}

/// Towards zero; the lowest integer for what it can't hold, as x86-64 has it. `Real`: float or double.
template <typename Integer, typename Real>
CKPT_HOST_DEVICE Integer truncated(Real value) {
  static_assert(std::is_signed_v<Integer> && sizeof(Integer) >= 4);
  constexpr auto kLowest = static_cast<Integer>(std::uint64_t{1} << (8 * sizeof(Integer) - 1));
  constexpr auto kLimit = -static_cast<Real>(kLowest);
  const bool fits = value >= -kLimit && value < kLimit;
  return fits ? static_cast<Integer>(value) : kLowest;
}

/// The upper half of the numbers by way of the lower one; so what is too large becomes 0, and what is too
/// small, or no number, 2^31 or 2^63.
template <typename Integer, typename Real>
CKPT_HOST_DEVICE Integer truncated_unsigned(Real value) {
  using Signed = std::make_signed_t<Integer>;
  constexpr auto kHalf = Integer{1} << (8 * sizeof(Integer) - 1);
  const auto is_upper = value >= static_cast<Real>(kHalf);
  const auto lower = is_upper ? value - static_cast<Real>(kHalf) : value;
  return static_cast<Integer>(truncated<Signed>(lower)) ^ (is_upper ? kHalf : Integer{0});
}

/// An integer from a float32 or float64, which is what arithmetic sees of a `From`.
template <typename Integer, typename From, typename Real>
CKPT_HOST_DEVICE Integer integer_of(Real value) {
  // Their one NaN is a constant, and compilers convert it otherwise than processors do.
  constexpr bool kNanIsZero = std::is_same_v<From, Float8E4m3fnuz> || std::is_same_v<From, Float8E5m2fnuz> ||
                              std::is_same_v<From, Float8E8m0fnu>;
  constexpr bool kByHalves = std::is_same_v<Integer, std::uint64_t> ||
                             (std::is_same_v<Integer, std::uint32_t> &&
                              (std::is_same_v<From, Real> || std::is_same_v<From, Bfloat16>));
  constexpr bool kByInt64 =
      sizeof(Integer) == 8 || std::is_same_v<Integer, std::uint8_t> || std::is_same_v<Integer, std::uint32_t>;
  if constexpr (kNanIsZero) value = value != value ? Real{0} : value;
  if constexpr (kByHalves) return truncated_unsigned<Integer>(value);
  return static_cast<Integer>(truncated<std::conditional_t<kByInt64, std::int64_t, std::int32_t>>(value));
}

/// What arithmetic sees of an element: itself, or a float32 for a float of few bits.
template <typename From>
CKPT_HOST_DEVICE auto number_of(From element) {
  if constexpr (std::is_same_v<From, StoredBool>) {
    return static_cast<std::uint8_t>(element.byte != 0 ? 1 : 0);
  } else if constexpr (std::is_arithmetic_v<From>) {
    return element;
  } else {
    return static_cast<float>(element);
  }
}

/// An element of another dtype; of the same one, itself. Complex ones are cast part by part.
template <typename To, typename From>
CKPT_HOST_DEVICE To cast_element(From element) {
  if constexpr (std::is_same_v<To, From>) {
    return element;
  } else {
    const auto number = number_of(element);
    using Number = std::remove_const_t<decltype(number)>;
    constexpr bool kFromReal = std::is_floating_point_v<Number>;
    if constexpr (std::is_same_v<To, StoredBool>) {
      return To{static_cast<std::uint8_t>(number != 0 ? 1 : 0)};
    } else if constexpr (std::is_integral_v<To>) {
      if constexpr (kFromReal) {
        return integer_of<To, From>(number);
      } else {
        return static_cast<To>(number);
      }
    } else if constexpr (std::is_same_v<To, double>) {
      if constexpr (std::is_same_v<Number, float>) {
        return doubled(number);
      } else {
        return static_cast<double>(number);
      }
    } else if constexpr (std::is_same_v<Number, double>) {
      return cast_element<To>(narrowed(number));
    } else if constexpr (std::is_same_v<To, Bfloat16> && std::is_same_v<From, float>) {
      Bfloat16 out(number);
      out.bits = number != number ? std::uint16_t{0xffff} : out.bits;
      return out;
    } else if constexpr (std::is_same_v<To, float>) {
      return static_cast<float>(number);
    } else {
      return To(static_cast<float>(number));
    }
  }
}

}  // namespace ckpt
