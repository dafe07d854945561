// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/operators.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/device.h>
#include <torch/headeronly/util/HeaderOnlyArrayRef.h>

#include <optional>

namespace ckpt::torch_module {
namespace {

constexpr std::int64_t kStep = 1;
constexpr std::int32_t kHost = -1;

Tensor view_of(void* data, const std::int64_t* size, std::int64_t offset, std::int32_t dtype,
               std::int32_t device) {
  const auto type = device == kHost ? aoti_torch_device_type_cpu() : aoti_torch_device_type_cuda();
  AtenTensorHandle result = nullptr;
  check(aoti_torch_create_tensor_from_blob_v2(data, size == nullptr ? 0 : 1, size, &kStep, offset, dtype,
                                              type, device == kHost ? 0 : device, &result,
                                              aoti_torch_layout_strided(), nullptr, 0),
        "from_blob");
  return Tensor(result);
}

/// By value, so that the tensor does not need its origin.
Tensor copied(const Tensor& a, ScalarType dtype, std::int32_t device) {
  using torch::stable::Device;
  const auto place = device == kHost ? Device(torch::headeronly::DeviceType::CPU)
                                     : Device(torch::headeronly::DeviceType::CUDA, device);
  return call("aten::_to_copy", "", a, std::optional(dtype), std::nullopt, std::optional(place), std::nullopt,
              false, std::nullopt);
}

}  // namespace

Tensor tensor_of(const CkptValues& values, std::uint64_t first, std::uint64_t count) {
  const auto size = static_cast<std::int64_t>(count);
  return view_of(values.buffer, &size, static_cast<std::int64_t>(values.offset + first), values.dtype,
                 values.device);
}

Tensor number(double value, ScalarType dtype, std::int32_t device) {
  return copied(view_of(&value, nullptr, 0, CKPT_FLOAT64, kHost), dtype, device);
}

Tensor integer(std::uint64_t value, std::int32_t device) {
  return copied(view_of(&value, nullptr, 0, CKPT_INT64, kHost), ScalarType::Long, device);
}

Tensor repeated(const Tensor& value, std::uint64_t count) {
  const auto size = static_cast<std::int64_t>(count);
  const auto view =
      call("aten::expand", "", value, torch::headeronly::IntHeaderOnlyArrayRef(&size, 1), false);
  return call("aten::clone", "", view, std::nullopt);
}

double value_of(const Tensor& a) {
  double value = 0;
  check(aoti_torch_item_float64(a.get(), &value), "item");
  return value;
}

}  // namespace ckpt::torch_module
