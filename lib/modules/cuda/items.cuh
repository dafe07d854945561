// SPDX-License-Identifier: BSD-3-Clause
// Elements by their size, as kernels hold them in registers.
#pragma once

#include <cstdint>

#include "modules/cuda/launch.h"

namespace ckpt::cuda {

constexpr unsigned kThreads = 256;  // of a block

struct alignas(16) Item16 {
  std::uint64_t low;
  std::uint64_t high;
};

template <unsigned kSize>
struct ItemOf : BitsOf<kSize> {};

template <>
struct ItemOf<16> {
  using Type = Item16;
};

template <unsigned kSize>
using Item = typename ItemOf<kSize>::Type;

/// Turned round and converted, by the numbers in `elements`. Not inlined: every dtype is in it, and kernels
/// that use it have better things to wait for.
static __device__ __noinline__ std::uint64_t finished_bits(std::int32_t from, std::int32_t to,
                                                           std::uint32_t swap, std::uint64_t bits) {
  return finished(from, to, swap, bits);
}

template <unsigned kTo, typename From>
__device__ __forceinline__ Item<kTo> finished_item(const Elements& elements, From from) {
  if constexpr (sizeof(From) == 16) {  // never converted; its numbers have 8 bytes
    return Item16{turned_round(from.low, 8), turned_round(from.high, 8)};
  } else {
    return static_cast<Item<kTo>>(
        finished_bits(elements.source_dtype, elements.target_dtype, elements.swap, from));
  }
}

/// Calls `use.operator()<kSize>()` for the size; false for one that no item has.
template <typename Use>
bool with_size(unsigned size, Use use) {
  switch (size) {
    case 1: return use.template operator()<1>();
    case 2: return use.template operator()<2>();
    case 4: return use.template operator()<4>();
    case 8: return use.template operator()<8>();
    default: return false;
  }
}

}  // namespace ckpt::cuda
