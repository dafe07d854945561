// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/lazy_bits.h"

#include <cstdint>
#include <cstring>

namespace ckpt {
namespace {

constexpr std::byte kSign{0x80};

/// Of each number of `size` bytes, from the one at `first` on, every `step` bytes.
void turn_signs(std::span<std::byte> values, std::size_t first, std::size_t size, std::size_t step) {
  for (auto at = first + size; at <= values.size(); at += step) values[at - 1] ^= kSign;
}

template <typename Unsigned>
void negate_integers(std::span<std::byte> values) {
  for (std::size_t at = 0; at < values.size(); at += sizeof(Unsigned)) {
    Unsigned value;
    std::memcpy(&value, values.data() + at, sizeof value);
    value = static_cast<Unsigned>(0U - value);
    std::memcpy(values.data() + at, &value, sizeof value);
  }
}

void negate(Dtype dtype, std::span<std::byte> values) {
  const auto& info = dtype_info(dtype);
  if (info.dtype_class == DtypeClass::kFloat) return turn_signs(values, 0, info.item_size, info.item_size);
  if (info.dtype_class == DtypeClass::kComplex)
    return turn_signs(values, 0, info.item_size / 2, info.item_size / 2);
  switch (info.item_size) {
    case 1: return negate_integers<std::uint8_t>(values);
    case 2: return negate_integers<std::uint16_t>(values);
    case 4: return negate_integers<std::uint32_t>(values);
    default: return negate_integers<std::uint64_t>(values);
  }
}

}  // namespace

void resolve_lazy_bits(Dtype dtype, LazyBits bits, std::span<std::byte> values) {
  const auto& info = dtype_info(dtype);
  if (bits.negative) negate(dtype, values);
  if (bits.conjugate && info.dtype_class == DtypeClass::kComplex)
    turn_signs(values, info.item_size / 2, info.item_size / 2, info.item_size);
}

}  // namespace ckpt
