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

/// A number as a tensor without dimensions in host memory, which operators take beside tensors of a GPU.
/// A view: the number must outlive it.
Tensor scalar(const double& value);

inline Tensor to(const Tensor& a, ScalarType dtype) {
  return call("aten::to", "dtype", a, dtype, false, false, std::nullopt);
}

inline Tensor operator*(const Tensor& a, const Tensor& b) {
  return call("aten::mul", "Tensor", a, b);
}

inline Tensor operator/(const Tensor& a, const Tensor& b) {
  return call("aten::div", "Tensor", a, b);
}

/// a - factor·b. A factor of 1 or -1 leaves one operation that rounds, wherever it is fused with another.
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

inline Tensor not_equal(const Tensor& a, const Tensor& b) {
  return call("aten::ne", "Tensor", a, b);
}

inline Tensor greater(const Tensor& a, const Tensor& b) {
  return call("aten::gt", "Tensor", a, b);
}

inline Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return call("aten::where", "self", condition, a, b);
}

inline Tensor next_after(const Tensor& a, const Tensor& towards) {
  return call("aten::nextafter", "", a, towards);
}

inline Tensor absolute(const Tensor& a) {
  return call("aten::abs", "", a);
}

inline Tensor bit_or(const Tensor& a, const Tensor& b) {
  return call("aten::bitwise_or", "Tensor", a, b);
}

/// The same bits under another dtype of the same size.
inline Tensor bits_as(const Tensor& a, ScalarType dtype) {
  return call("aten::view", "dtype", a, dtype);
}

/// Converts `from` into the memory of `target`.
inline void copy(const Tensor& target, const Tensor& from) {
  call("aten::copy_", "", target, from, false);
}

}  // namespace ckpt::torch_module
