// SPDX-License-Identifier: BSD-3-Clause
// Floats of any dtype as the numbers that merge methods compute with, and back with one rounding. For loops
// that are compiled for several vector units, so all of it is inlined.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ckpt/compute/narrow_floats.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

#define CKPT_MERGE_INLINED inline __attribute__((always_inline))

/// A float with the property that rounding it to fewer bits gives what rounding `value` gives: cut, and odd
/// where something was cut off.
CKPT_MERGE_INLINED float rounded_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  const auto back = static_cast<double>(nearest);
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  bits -= std::fabs(back) > std::fabs(value) ? 1U : 0U;
  bits |= back != value ? 1U : 0U;  // a NaN stays one
  return std::bit_cast<float>(bits);
}

CKPT_MERGE_INLINED float rounded_to_odd(float value) {
  return value;
}

/// All NaNs are one: which of two a sum hands on depends on the processor.
template <typename Real>
CKPT_MERGE_INLINED Real with_one_nan(Real value) {
  return value == value ? value : std::numeric_limits<Real>::quiet_NaN();
}

template <typename Item, typename Real>
CKPT_MERGE_INLINED void decode_items(const std::byte* values, Real* __restrict out, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    Item item;
    std::memcpy(&item, values + i * sizeof(Item), sizeof item);
    if constexpr (std::is_class_v<Item>) {
      out[i] = static_cast<Real>(static_cast<float>(item));
    } else {
      out[i] = static_cast<Real>(item);
    }
  }
}

/// Precondition: a real float of eight bits or more.
template <typename Real>
CKPT_MERGE_INLINED void decode_values(Dtype dtype, const std::byte* values, Real* __restrict out,
                                      std::size_t count) {
  switch (dtype) {
    case Dtype::kFloat64: return decode_items<double>(values, out, count);
    case Dtype::kFloat32: return decode_items<float>(values, out, count);
    case Dtype::kFloat16: return decode_items<Float16>(values, out, count);
    case Dtype::kBfloat16: return decode_items<Bfloat16>(values, out, count);
    case Dtype::kFloat8E5m2: return decode_items<Float8E5m2>(values, out, count);
    case Dtype::kFloat8E5m2fnuz: return decode_items<Float8E5m2fnuz>(values, out, count);
    case Dtype::kFloat8E4m3fnuz: return decode_items<Float8E4m3fnuz>(values, out, count);
    case Dtype::kFloat8E8m0fnu: return decode_items<Float8E8m0fnu>(values, out, count);
    default: return decode_items<Float8E4m3fn>(values, out, count);
  }
}

/// The nearest `Item`, ties to even; overflow as PyTorch's cast has it.
template <typename Item, typename Real>
CKPT_MERGE_INLINED Item rounded(Real value) {
  const auto number = with_one_nan(value);
  if constexpr (std::is_same_v<Item, Float8E8m0fnu>) {
    return Item(static_cast<float>(number));  // PyTorch finds powers of two by the bits of a float32
  } else if constexpr (std::is_class_v<Item>) {
    return Item(rounded_to_odd(number));
  } else {
    return static_cast<Item>(number);
  }
}

template <typename Item, typename Real>
CKPT_MERGE_INLINED void encode_items(const Real* values, std::byte* out, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto item = rounded<Item>(values[i]);
    std::memcpy(out + i * sizeof(Item), &item, sizeof item);
  }
}

template <typename Real>
CKPT_MERGE_INLINED void encode_values(Dtype dtype, const Real* values, std::byte* out, std::size_t count) {
  switch (dtype) {
    case Dtype::kFloat64: return encode_items<double>(values, out, count);
    case Dtype::kFloat32: return encode_items<float>(values, out, count);
    case Dtype::kFloat16: return encode_items<Float16>(values, out, count);
    case Dtype::kBfloat16: return encode_items<Bfloat16>(values, out, count);
    case Dtype::kFloat8E5m2: return encode_items<Float8E5m2>(values, out, count);
    case Dtype::kFloat8E5m2fnuz: return encode_items<Float8E5m2fnuz>(values, out, count);
    case Dtype::kFloat8E4m3fnuz: return encode_items<Float8E4m3fnuz>(values, out, count);
    case Dtype::kFloat8E8m0fnu: return encode_items<Float8E8m0fnu>(values, out, count);
    default: return encode_items<Float8E4m3fn>(values, out, count);
  }
}

}  // namespace ckpt
