// SPDX-License-Identifier: BSD-3-Clause
// LibTorch's operators by name, through its stable ABI. Nothing here is linked to LibTorch: whoever loads the
// module has loaded it before.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_aten.h>
#include <torch/csrc/stable/c/shim.h>
#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "ckpt/compute/module_abi.h"

namespace ckpt::torch_module {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// LibTorch said no; it has printed why on standard error.
class OperatorError : public std::runtime_error {
 public:
  explicit OperatorError(const char* where)
      : std::runtime_error(std::string("LibTorch failed in ") + where) {}
};

inline void check(AOTITorchError code, const char* where) {
  if (code != AOTI_TORCH_SUCCESS) throw OperatorError(where);
}

/// The first result of an operator, such as "aten::mul" and its overload "Tensor". The arguments are all
/// those of its schema. The ABI has none for a Scalar.
template <typename... Arguments>
Tensor call(const char* name, const char* overload, const Arguments&... arguments) {
  std::array<StableIValue, sizeof...(arguments)> stack{torch::stable::detail::from(arguments)...};
  check(torch_call_dispatcher(name, overload, stack.data(), TORCH_ABI_VERSION), name);
  return torch::stable::detail::to<Tensor>(stack[0]);
}

/// `count` values from the `first` on, as a tensor of one dimension. The memory stays somebody else's.
Tensor tensor_of(const CkptValues& values, std::uint64_t first, std::uint64_t count);

/// A number as a tensor without dimensions, on a device. As a tensor of the host it would be a constant to
/// operators on a GPU, and divisions by constants are products there.
Tensor number(double value, ScalarType dtype, std::int32_t device);
Tensor integer(std::uint64_t value, std::int32_t device);

inline Tensor to(const Tensor& a, ScalarType dtype) {
  return call("aten::to", "dtype", a, dtype, false, false, std::nullopt);
}

inline Tensor operator*(const Tensor& a, const Tensor& b) {
  return call("aten::mul", "Tensor", a, b);
}

inline Tensor operator/(const Tensor& a, const Tensor& b) {
  return call("aten::div", "Tensor", a, b);
}

/// a - factor·b. A factor of 1 or -1 leaves one operation that rounds, even where both are fused.
inline Tensor subtract(const Tensor& a, const Tensor& b, double factor) {
  AtenTensorHandle result = nullptr;
  check(aoti_torch_aten_subtract_Tensor(a.get(), b.get(), factor, &result), "aten::subtract");
  return Tensor(result);
}

inline Tensor operator+(const Tensor& a, const Tensor& b) {
  return subtract(a, b, -1.0);
}

inline Tensor operator-(const Tensor& a, const Tensor& b) {
  return subtract(a, b, 1.0);
}

inline Tensor operator-(const Tensor& a) {
  return call("aten::neg", "", a);
}

inline Tensor operator==(const Tensor& a, const Tensor& b) {
  return call("aten::eq", "Tensor", a, b);
}

inline Tensor operator!=(const Tensor& a, const Tensor& b) {
  return call("aten::ne", "Tensor", a, b);
}

inline Tensor operator<(const Tensor& a, const Tensor& b) {
  return call("aten::lt", "Tensor", a, b);
}

inline Tensor operator<=(const Tensor& a, const Tensor& b) {
  return call("aten::le", "Tensor", a, b);
}

inline Tensor operator>(const Tensor& a, const Tensor& b) {
  return call("aten::gt", "Tensor", a, b);
}

inline Tensor operator>=(const Tensor& a, const Tensor& b) {
  return call("aten::ge", "Tensor", a, b);
}

/// Of integers, bit by bit; of booleans.
inline Tensor operator&(const Tensor& a, const Tensor& b) {
  return call("aten::bitwise_and", "Tensor", a, b);
}

inline Tensor operator|(const Tensor& a, const Tensor& b) {
  return call("aten::bitwise_or", "Tensor", a, b);
}

inline Tensor operator^(const Tensor& a, const Tensor& b) {
  return call("aten::bitwise_xor", "Tensor", a, b);
}

/// The sign bit moves in.
inline Tensor operator>>(const Tensor& a, const Tensor& b) {
  return call("aten::bitwise_right_shift", "Tensor", a, b);
}

inline Tensor absolute(const Tensor& a) {
  return call("aten::abs", "", a);
}

inline Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return call("aten::where", "self", condition, a, b);
}

inline Tensor next_after(const Tensor& a, const Tensor& towards) {
  return call("aten::nextafter", "", a, towards);
}

/// The same bits under another dtype; of one that is half as large, twice as many.
inline Tensor bits_as(const Tensor& a, ScalarType dtype) {
  return call("aten::view", "dtype", a, dtype);
}

/// `count` times a tensor without dimensions, in memory of its own.
Tensor repeated(const Tensor& value, std::uint64_t count);

/// A view.
inline Tensor narrow(const Tensor& a, std::uint64_t first, std::uint64_t count) {
  return call("aten::narrow", "", a, std::int64_t{0}, static_cast<std::int64_t>(first),
              static_cast<std::int64_t>(count));
}

/// The sum up to each place, modulo 2^64 of integers.
inline Tensor running_sum(const Tensor& a) {
  return call("aten::cumsum", "", a, std::int64_t{0}, std::nullopt);
}

inline Tensor sum(const Tensor& a) {
  return call("aten::sum", "", a, std::nullopt);
}

/// The float64 in a tensor of one; waits for a GPU.
double value_of(const Tensor& a);

/// Converts `from` into the memory of `target`.
inline void copy(const Tensor& target, const Tensor& from) {
  call("aten::copy_", "", target, from, false);
}

}  // namespace ckpt::torch_module
