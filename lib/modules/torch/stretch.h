// SPDX-License-Identifier: BSD-3-Clause
// A stretch of the inputs of a pass, as tensors of the dtype that it computes in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "modules/torch/operators.h"

namespace ckpt::torch_module {

class Stretch {
 public:
  Stretch(const CkptKernelCall& call, std::int32_t device, std::uint64_t first, std::uint64_t count)
      : call_(call), device_(device), first_(first), count_(count), zero_(number(0)), one_(number(1)) {}

  std::int32_t device() const { return device_; }

  std::size_t inputs() const { return call_.input_count; }

  std::size_t changes() const { return call_.input_count - 1; }

  Tensor input(std::size_t index) const;

  /// The change of input `index + 1`, masked and scaled.
  Tensor change(std::size_t index, const Tensor& base) const;

  double parameter(std::size_t index) const { return call_.parameters[index]; }

  Tensor number(double value) const { return torch_module::number(value, dtype(), device_); }

  /// A number for each value; what is added to it is added to that number.
  Tensor zeros() const { return repeated(zero_, count_); }

  const Tensor& zero() const { return zero_; }

  const Tensor& one() const { return one_; }

 private:
  ScalarType dtype() const { return static_cast<ScalarType>(call_.accumulate); }

  Tensor keys(const Tensor& values) const;
  Tensor random(std::uint64_t key) const;
  Tensor masked(const Tensor& values, const CkptMask& mask) const;

  const CkptKernelCall& call_;
  std::int32_t device_;
  std::uint64_t first_;
  std::uint64_t count_;
  Tensor zero_;
  Tensor one_;
};

}  // namespace ckpt::torch_module
