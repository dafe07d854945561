// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/rounding.h"

namespace ckpt::torch_module {
namespace {

constexpr double kZero = 0.0;

/// As float32, rounded to odd: towards zero, with the last bit set where anything was lost. Rounding that to
/// a float of 22 bits of precision or less is rounding the value itself.
Tensor rounded_to_odd(const Tensor& values) {
  const auto nearest = to(values, ScalarType::Float);
  const auto back = to(nearest, ScalarType::Double);
  const auto grew = greater(absolute(back), absolute(values));
  const auto lost = to(not_equal(back, values), ScalarType::Int);
  const auto towards_zero = where(grew, next_after(nearest, to(scalar(kZero), ScalarType::Float)), nearest);
  return bits_as(bit_or(bits_as(towards_zero, ScalarType::Int), lost), ScalarType::Float);
}

}  // namespace

void round_into(const Tensor& target, const Tensor& values) {
  const bool by_way_of_float32 = target.element_size() < 4 && values.scalar_type() == ScalarType::Double;
  copy(target, by_way_of_float32 ? rounded_to_odd(values) : values);
}

}  // namespace ckpt::torch_module
