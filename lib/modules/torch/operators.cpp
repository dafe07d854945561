// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/operators.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

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

}  // namespace

Tensor tensor_of(const CkptValues& values, std::uint64_t first, std::uint64_t count) {
  const auto size = static_cast<std::int64_t>(count);
  return view_of(values.buffer, &size, static_cast<std::int64_t>(values.offset + first), values.dtype,
                 values.device);
}

Tensor scalar(const double& value) {
  // LibTorch has no tensors of constants; nobody writes to this one.
  return view_of(const_cast<double*>(&value), nullptr, 0, CKPT_FLOAT64, kHost);  // NOLINT
}

}  // namespace ckpt::torch_module
