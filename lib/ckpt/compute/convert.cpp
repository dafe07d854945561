// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/convert.h"

#include <algorithm>
#include <cstring>

#include "ckpt/compute/element_types.h"
#include "ckpt/compute/float_casts.h"

namespace ckpt {
namespace {

template <typename To, typename From>
void cast_each(ByteView values, std::byte* out) {
  const auto count = values.size() / sizeof(From);
  for (std::size_t i = 0; i < count; ++i) {
    From from;
    std::memcpy(&from, values.data() + i * sizeof(From), sizeof(From));
    const auto to = cast_element<To>(from);
    std::memcpy(out + i * sizeof(To), &to, sizeof(To));
  }
}

bool is_complex(Dtype dtype) {
  return dtype_info(dtype).dtype_class == DtypeClass::kComplex;
}

bool is_number(Dtype dtype) {
  return with_real_element(part_dtype(dtype), [](auto) {});
}

}  // namespace

bool can_convert(Dtype from, Dtype to) {
  return from == to || (is_number(from) && is_number(to) && is_complex(from) == is_complex(to));
}

void convert(Dtype from, ByteView values, Dtype to, std::byte* out) {
  if (from == to) {
    std::copy(values.begin(), values.end(), out);
    return;
  }
  from = part_dtype(from);
  to = part_dtype(to);
  if (cast_floats(from, values, to, out)) return;
  with_real_element(from, [&](auto source) {
    with_real_element(to, [&](auto target) { cast_each<decltype(target), decltype(source)>(values, out); });
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
