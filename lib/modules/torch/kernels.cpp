// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/kernels.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "modules/torch/operators.h"
#include "modules/torch/rounding.h"

namespace ckpt::torch_module {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{1} << 15U;  // values whose float64 stay in a near cache

bool is_float(std::int32_t dtype) {
  return dtype == CKPT_FLOAT16 || dtype == CKPT_BFLOAT16 || dtype == CKPT_FLOAT32 || dtype == CKPT_FLOAT64;
}

/// One stretch of a call's inputs, as tensors of the dtype that it accumulates in.
class Stretch {
 public:
  Stretch(const CkptKernelCall& call, std::uint64_t first, std::uint64_t count)
      : call_(call), first_(first), count_(count) {}

  Tensor input(std::size_t index) const {
    return to(tensor_of(call_.inputs[index], first_, count_), static_cast<ScalarType>(call_.accumulate));
  }

  Tensor parameter(std::size_t index) const { return scalar(call_.parameters[index]); }

 private:
  const CkptKernelCall& call_;
  std::uint64_t first_;
  std::uint64_t count_;
};

Tensor linear_combination(const CkptKernelCall& call, const Stretch& stretch) {
  auto sum = stretch.input(0) * stretch.parameter(0);
  for (std::size_t i = 1; i < call.input_count; ++i) sum = sum + stretch.input(i) * stretch.parameter(i);
  return sum;
}

}  // namespace

bool supports(const CkptKernelCall& call) {
  const auto* end = call.inputs + call.input_count;
  return call.kernel == CKPT_LINEAR_COMBINATION && call.input_count > 0 &&
         call.parameter_count == call.input_count && is_float(call.target_dtype) &&
         std::all_of(call.inputs, end, [](const CkptValues& values) { return is_float(values.dtype); });
}

void combine(const CkptKernelCall& call, const CkptValues& target) {
  const auto piece = target.device < 0 ? kPiece : std::max<std::uint64_t>(target.count, 1);
  for (std::uint64_t first = 0; first < target.count; first += piece) {
    const auto count = std::min(piece, target.count - first);
    round_into(tensor_of(target, first, count), linear_combination(call, Stretch(call, first, count)));
  }
}

}  // namespace ckpt::torch_module
