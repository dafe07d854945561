// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/convert.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "ckpt/compute/narrow_floats.h"

namespace ckpt {
namespace {

/// What arithmetic sees of a stored value.
template <typename Stored>
auto widened(Stored value) {
  if constexpr (std::is_class_v<Stored>) {
    return static_cast<float>(value);
  } else {
    return value;
  }
}

/// C++ leaves a float that no integer of the type can hold undefined; processors of the x86 family give the
/// lowest integer of 32 or 64 bits, cut to the type.
template <typename To>
To truncated(double value) {
  using Wide = std::conditional_t<(sizeof(To) < 8), std::int32_t, std::int64_t>;
  constexpr auto kLimit = static_cast<double>(std::uint64_t{1} << (8 * sizeof(Wide) - 1));
  const bool fits = value > -kLimit - 1 && value < kLimit;
  return static_cast<To>(fits ? static_cast<Wide>(value) : std::numeric_limits<Wide>::min());
}

template <typename To, typename From>
To converted(From stored) {
  const auto value = widened(stored);
  using Value = decltype(value + 0);
  if constexpr (std::is_class_v<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_same_v<To, bool>) {
    return value != 0;
  } else if constexpr (std::is_floating_point_v<Value> && std::is_integral_v<To>) {
    return truncated<To>(static_cast<double>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <typename To, typename From>
void convert_all(ByteView values, std::byte* out) {
  const auto count = values.size() / sizeof(From);
  for (std::size_t i = 0; i < count; ++i) {
    From from;
    std::memcpy(&from, values.data() + i * sizeof(From), sizeof(From));
    const auto to = converted<To>(from);
    std::memcpy(out + i * sizeof(To), &to, sizeof(To));
  }
}

/// Calls `use` with a value of the C++ type that stands for `dtype`; false if there is none.
template <typename Use>
bool with_type(Dtype dtype, Use use) {
  switch (dtype) {
    case Dtype::kUint8: return use(std::uint8_t{}), true;
    case Dtype::kInt8: return use(std::int8_t{}), true;
    case Dtype::kInt16: return use(std::int16_t{}), true;
    case Dtype::kInt32: return use(std::int32_t{}), true;
    case Dtype::kInt64: return use(std::int64_t{}), true;
    case Dtype::kUint16: return use(std::uint16_t{}), true;
    case Dtype::kUint32: return use(std::uint32_t{}), true;
    case Dtype::kUint64: return use(std::uint64_t{}), true;
    case Dtype::kFloat16: return use(Float16{}), true;
    case Dtype::kBfloat16: return use(Bfloat16{}), true;
    case Dtype::kFloat32: return use(float{}), true;
    case Dtype::kFloat64: return use(double{}), true;
    case Dtype::kBool: return use(bool{}), true;
    default: return false;
  }
}

bool is_number(Dtype dtype) {
  return with_type(dtype, [](auto) {});
}

}  // namespace

bool can_convert(Dtype from, Dtype to) {
  return from == to || (is_number(from) && is_number(to));
}

void convert(Dtype from, ByteView values, Dtype to, std::byte* out) {
  if (from == to) {
    std::copy(values.begin(), values.end(), out);
    return;
  }
  with_type(from, [&](auto source) {
    with_type(to, [&](auto target) { convert_all<decltype(target), decltype(source)>(values, out); });
  });
}

void swap_byte_order(Dtype dtype, std::span<std::byte> values) {
  const auto& info = dtype_info(dtype);
  const std::size_t unit = info.dtype_class == DtypeClass::kComplex ? info.item_size / 2 : info.item_size;
  if (unit < 2) return;
  for (std::size_t at = 0; at + unit <= values.size(); at += unit)
    std::reverse(values.data() + at, values.data() + at + unit);
}

}  // namespace ckpt
