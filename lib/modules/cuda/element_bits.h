// SPDX-License-Identifier: BSD-3-Clause
// Elements as bits, and casts between dtypes that only the launch names. The rules are those of
// `ckpt/compute/element_casts.h`; here stands which of them applies.
#pragma once

#include <cstdint>

#include "ckpt/compute/element_casts.h"
#include "ckpt/compute/module_abi.h"

namespace ckpt::cuda {

/// Bytes of an element; 0 for a number that is no dtype.
CKPT_HOST_DEVICE constexpr std::uint32_t element_size(std::int32_t dtype) {
  switch (dtype) {
    case CKPT_BOOL:
    case CKPT_UINT8:
    case CKPT_INT8:
    case CKPT_FLOAT8_E5M2:
    case CKPT_FLOAT8_E4M3FN:
    case CKPT_FLOAT8_E5M2FNUZ:
    case CKPT_FLOAT8_E4M3FNUZ:
    case CKPT_FLOAT8_E8M0FNU:
    case CKPT_OPAQUE_1: return 1;
    case CKPT_UINT16:
    case CKPT_INT16:
    case CKPT_FLOAT16:
    case CKPT_BFLOAT16:
    case CKPT_OPAQUE_2: return 2;
    case CKPT_UINT32:
    case CKPT_INT32:
    case CKPT_FLOAT32:
    case CKPT_OPAQUE_4: return 4;
    case CKPT_UINT64:
    case CKPT_INT64:
    case CKPT_FLOAT64:
    case CKPT_OPAQUE_8: return 8;
    case CKPT_OPAQUE_16: return 16;
    default: return 0;
  }
}

/// Has an element of it a meaning that other dtypes can express?
CKPT_HOST_DEVICE constexpr bool is_number(std::int32_t dtype) {
  return element_size(dtype) != 0 && dtype < CKPT_OPAQUE_1;
}

template <unsigned kSize>
struct BitsOf;

template <>
struct BitsOf<1> {
  using Type = std::uint8_t;
};

template <>
struct BitsOf<2> {
  using Type = std::uint16_t;
};

template <>
struct BitsOf<4> {
  using Type = std::uint32_t;
};

template <>
struct BitsOf<8> {
  using Type = std::uint64_t;
};

template <typename Element>
CKPT_HOST_DEVICE Element element_from(std::uint64_t bits) {
  return bits_as<Element>(static_cast<typename BitsOf<sizeof(Element)>::Type>(bits));
}

template <typename Element>
CKPT_HOST_DEVICE std::uint64_t bits_from(Element element) {
  return bits_as<typename BitsOf<sizeof(Element)>::Type>(element);
}

/// What arithmetic sees of an element.
struct Number {
  /// Floats of few bits are float32 numbers, and integers come from some of them by rules of their own.
  enum Kind : std::uint8_t { kFloat32, kBfloat16, kWithoutNan, kNarrow, kFloat64, kSigned, kUnsigned };

  Kind kind = kUnsigned;
  float single = 0;
  double wide = 0;
  std::uint64_t integer = 0;  ///< of both signs, modulo 2^64
};

template <typename From>
CKPT_HOST_DEVICE Number number_from(Number::Kind kind, std::uint64_t bits) {
  const auto value = number_of(element_from<From>(bits));
  Number number;
  number.kind = kind;
  if constexpr (sizeof(value) == 8 && std::is_floating_point_v<decltype(number_of(From{}))>) {
    number.wide = value;
  } else if constexpr (std::is_floating_point_v<decltype(number_of(From{}))>) {
    number.single = value;
  } else {
    number.integer = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
  }
  return number;
}

CKPT_HOST_DEVICE Number number_at(std::int32_t dtype, std::uint64_t bits) {
  switch (dtype) {
    case CKPT_BOOL: return number_from<StoredBool>(Number::kUnsigned, bits);
    case CKPT_UINT8: return number_from<std::uint8_t>(Number::kUnsigned, bits);
    case CKPT_UINT16: return number_from<std::uint16_t>(Number::kUnsigned, bits);
    case CKPT_UINT32: return number_from<std::uint32_t>(Number::kUnsigned, bits);
    case CKPT_UINT64: return number_from<std::uint64_t>(Number::kUnsigned, bits);
    case CKPT_INT8: return number_from<std::int8_t>(Number::kSigned, bits);
    case CKPT_INT16: return number_from<std::int16_t>(Number::kSigned, bits);
    case CKPT_INT32: return number_from<std::int32_t>(Number::kSigned, bits);
    case CKPT_INT64: return number_from<std::int64_t>(Number::kSigned, bits);
    case CKPT_FLOAT16: return number_from<Float16>(Number::kNarrow, bits);
    case CKPT_BFLOAT16: return number_from<Bfloat16>(Number::kBfloat16, bits);
    case CKPT_FLOAT32: return number_from<float>(Number::kFloat32, bits);
    case CKPT_FLOAT64: return number_from<double>(Number::kFloat64, bits);
    case CKPT_FLOAT8_E5M2: return number_from<Float8E5m2>(Number::kNarrow, bits);
    case CKPT_FLOAT8_E4M3FN: return number_from<Float8E4m3fn>(Number::kNarrow, bits);
    case CKPT_FLOAT8_E5M2FNUZ: return number_from<Float8E5m2fnuz>(Number::kWithoutNan, bits);
    case CKPT_FLOAT8_E4M3FNUZ: return number_from<Float8E4m3fnuz>(Number::kWithoutNan, bits);
    default: return number_from<Float8E8m0fnu>(Number::kWithoutNan, bits);
  }
}

template <typename To>
CKPT_HOST_DEVICE To narrow_cast(const Number& number) {
  if constexpr (std::is_integral_v<To>) {
    switch (number.kind) {
      case Number::kBfloat16: return integer_of<To, Bfloat16>(number.single);
      case Number::kWithoutNan: return integer_of<To, Float8E8m0fnu>(number.single);
      default: return integer_of<To, Float16>(number.single);
    }
  } else if constexpr (std::is_same_v<To, StoredBool>) {
    return To{static_cast<std::uint8_t>(number.single != 0 ? 1 : 0)};
  } else if constexpr (std::is_same_v<To, double>) {
    return doubled(number.single);
  } else {
    return To(number.single);
  }
}

template <typename To>
CKPT_HOST_DEVICE std::uint64_t bits_of_number(const Number& number) {
  switch (number.kind) {
    case Number::kFloat32: return bits_from(cast_element<To>(number.single));
    case Number::kFloat64: return bits_from(cast_element<To>(number.wide));
    case Number::kSigned: return bits_from(cast_element<To>(static_cast<std::int64_t>(number.integer)));
    case Number::kUnsigned: return bits_from(cast_element<To>(number.integer));
    default: return bits_from(narrow_cast<To>(number));
  }
}

CKPT_HOST_DEVICE std::uint64_t bits_of(std::int32_t dtype, const Number& number) {
  switch (dtype) {
    case CKPT_BOOL: return bits_of_number<StoredBool>(number);
    case CKPT_UINT8: return bits_of_number<std::uint8_t>(number);
    case CKPT_UINT16: return bits_of_number<std::uint16_t>(number);
    case CKPT_UINT32: return bits_of_number<std::uint32_t>(number);
    case CKPT_UINT64: return bits_of_number<std::uint64_t>(number);
    case CKPT_INT8: return bits_of_number<std::int8_t>(number);
    case CKPT_INT16: return bits_of_number<std::int16_t>(number);
    case CKPT_INT32: return bits_of_number<std::int32_t>(number);
    case CKPT_INT64: return bits_of_number<std::int64_t>(number);
    case CKPT_FLOAT16: return bits_of_number<Float16>(number);
    case CKPT_BFLOAT16: return bits_of_number<Bfloat16>(number);
    case CKPT_FLOAT32: return bits_of_number<float>(number);
    case CKPT_FLOAT64: return bits_of_number<double>(number);
    case CKPT_FLOAT8_E5M2: return bits_of_number<Float8E5m2>(number);
    case CKPT_FLOAT8_E4M3FN: return bits_of_number<Float8E4m3fn>(number);
    case CKPT_FLOAT8_E5M2FNUZ: return bits_of_number<Float8E5m2fnuz>(number);
    case CKPT_FLOAT8_E4M3FNUZ: return bits_of_number<Float8E4m3fnuz>(number);
    default: return bits_of_number<Float8E8m0fnu>(number);
  }
}

/// The low bytes of `bits` are an element of `from`; those of the result one of `to`. Precondition: both are
/// numbers, and differ.
CKPT_HOST_DEVICE std::uint64_t cast_bits(std::int32_t from, std::int32_t to, std::uint64_t bits) {
  return bits_of(to, number_at(from, bits));
}

}  // namespace ckpt::cuda
