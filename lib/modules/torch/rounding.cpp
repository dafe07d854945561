// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/rounding.h"

#include <limits>

namespace ckpt::torch_module {
namespace {

/// As float32, rounded to odd: towards zero, with the last bit set where anything was lost. Rounding that to
/// a float of 22 bits of precision or less is rounding the value itself.
Tensor rounded_to_odd(const Tensor& values, const Tensor& zero) {
  const auto nearest = to(values, ScalarType::Float);
  const auto back = to(nearest, ScalarType::Double);
  const auto towards_zero = where(absolute(back) > absolute(values), next_after(nearest, zero), nearest);
  const auto lost = to(back != values, ScalarType::Int);
  return bits_as(bits_as(towards_zero, ScalarType::Int) | lost, ScalarType::Float);
}

constexpr std::uint64_t kBfloat16Nan = 0x7fc0;

/// LibTorch's vector code makes NaNs of all ones.
void copy_bfloat16(const Tensor& target, const Tensor& values, std::int32_t device) {
  copy(target, values);
  const auto bits = bits_as(target, ScalarType::Short);
  copy(bits, where(values == values, bits, to(integer(kBfloat16Nan, device), ScalarType::Short)));
}

}  // namespace

void round_into(const Tensor& target, const Tensor& values, std::int32_t device) {
  const auto dtype = values.scalar_type();
  const auto one_nan =
      where(values == values, values, number(std::numeric_limits<double>::quiet_NaN(), dtype, device));
  const bool is_narrow = target.element_size() < sizeof(float);
  const auto nearly = is_narrow && dtype == ScalarType::Double
                          ? rounded_to_odd(one_nan, number(0, ScalarType::Float, device))
                          : one_nan;
  if (target.scalar_type() == ScalarType::BFloat16) return copy_bfloat16(target, nearly, device);
  copy(target, nearly);
}

}  // namespace ckpt::torch_module
