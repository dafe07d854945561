// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/rounding.h"

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

/// Bits, and the dtype of integers that are as large.
struct NanBits {
  ScalarType dtype;
  std::uint64_t bits;
};

/// The one NaN of results.
NanBits nan_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Half: return {ScalarType::Short, 0x7e00U};
    case ScalarType::BFloat16: return {ScalarType::Short, 0x7fc0U};
    case ScalarType::Float: return {ScalarType::Int, 0x7fc00000U};
    default: return {ScalarType::Long, 0x7ff8000000000000U};
  }
}

}  // namespace

void round_into(const Tensor& target, const Tensor& values, std::int32_t device) {
  const bool is_narrow = target.element_size() < sizeof(float);
  const bool by_way_of_float = is_narrow && values.scalar_type() == ScalarType::Double;
  copy(target, by_way_of_float ? rounded_to_odd(values, number(0, ScalarType::Float, device)) : values);
  // What a conversion makes of a NaN is another thing on every device, and in LibTorch's vector code.
  const auto nan = nan_of(target.scalar_type());
  const auto bits = bits_as(target, nan.dtype);
  copy(bits, where(values == values, bits, to(integer(nan.bits, device), nan.dtype)));
}

}  // namespace ckpt::torch_module
