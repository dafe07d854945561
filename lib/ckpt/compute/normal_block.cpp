// SPDX-License-Identifier: BSD-3-Clause
// The logarithm, sine and cosine are Cephes' logf and sincosf (Stephen L. Moshier), as good as float32 gets
// but not correctly rounded. So their polynomials are part of the result, and so is which of their products
// are fused with the sum that follows. PyTorch leaves the latter to its compiler; what is fused here was
// found by comparing bits.
#include "ckpt/compute/normal_block.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#define CKPT_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace ckpt {
namespace {

/// factor · other + addend with one rounding: an instruction where the caller may use it, else a function.
CKPT_ALWAYS_INLINE float fused(float factor, float other, float addend) {
  return __builtin_fmaf(factor, other, addend);
}

CKPT_ALWAYS_INLINE float with_sign_flipped(float value, std::uint32_t sign) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) ^ sign);
}

/// The natural logarithm. Precondition: x is positive and normal.
CKPT_ALWAYS_INLINE float logarithm(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto fraction = std::bit_cast<float>((bits & 0x007fffffU) | 0x3f000000U);  // in [0.5, 1)
  const bool is_low = fraction < std::numbers::sqrt2_v<float> / 2;
  const auto exponent = static_cast<float>(static_cast<int>(bits >> 23U) - 126) - (is_low ? 1.0F : 0.0F);
  const float m = (fraction - 1.0F) + (is_low ? fraction : 0.0F);  // log(1 + m), |m| < 0.42
  const float square = m * m;
  float y = 7.0376836292E-2F;
  y = fused(y, m, -1.1514610310E-1F);
  y = fused(y, m, 1.1676998740E-1F);
  y = fused(y, m, -1.2420140846E-1F);
  y = fused(y, m, 1.4249322787E-1F);
  y = fused(y, m, -1.6668057665E-1F);
  y = fused(y, m, 2.0000714765E-1F);
  y = fused(y, m, -2.4999993993E-1F);
  y = fused(y, m, 3.3333331174E-1F);
  y = fused(y * m, square, exponent * -2.12194440e-4F);  // log 2 in two parts
  y = fused(square, -0.5F, y);
  return fused(exponent, 0.693359375F, m + y);
}

/// Of an angle from 0 to 2π.
CKPT_ALWAYS_INLINE void sine_and_cosine(float angle, float& sine, float& cosine) {
  const auto octant = (static_cast<std::int32_t>(angle * (4 / std::numbers::pi_v<float>)) + 1) & ~1;
  const auto turns = static_cast<float>(octant);
  float x = fused(turns, -0.78515625F, angle);  // π/4 in three parts; what is left is in [-π/4, π/4]
  x = fused(turns, -2.4187564849853515625e-4F, x);
  x = fused(turns, -3.77489497744594108e-8F, x);
  const float square = x * x;
  float even = 2.443315711809948E-5F;
  even = fused(even, square, -1.388731625493765E-3F);
  even = fused(even, square, 4.166664568298827E-2F);
  even = fused(even * square, square, -(square * 0.5F)) + 1.0F;
  float odd = -1.9515295891E-4F;
  odd = fused(odd, square, 8.3321608736E-3F);
  odd = fused(odd, square, -1.6666654611E-1F);
  odd = fused(odd * square, x, x);
  const auto bits = static_cast<std::uint32_t>(octant);
  const bool is_swapped = (bits & 2U) != 0;
  sine = with_sign_flipped(is_swapped ? even : odd, (bits & 4U) << 29U);
  cosine = with_sign_flipped(is_swapped ? odd : even, (~(bits - 2U) & 4U) << 29U);
}

CKPT_ALWAYS_INLINE void make_block_normal(float* values, float std) {
  for (std::size_t i = 0; i < 8; ++i) {
    const float radius = std::sqrt(-2.0F * logarithm(1.0F - values[i]));
    float sine = 0;
    float cosine = 0;
    sine_and_cosine(2 * std::numbers::pi_v<float> * values[i + 8], sine, cosine);
    values[i] = radius * cosine * std + 0.0F;
    values[i + 8] = radius * sine * std + 0.0F;
  }
}

#ifdef __x86_64__
[[gnu::target("avx2,fma")]] void make_block_normal_with_fma(float* values, float std) {
  make_block_normal(values, std);
}

bool has_fma() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

}  // namespace

void make_normal(std::span<float, 16> values, float std) {
#ifdef __x86_64__
  if (has_fma()) return make_block_normal_with_fma(values.data(), std);
#endif
  make_block_normal(values.data(), std);
}

void make_normal_portably(std::span<float, 16> values, float std) {
  make_block_normal(values.data(), std);
}

}  // namespace ckpt
