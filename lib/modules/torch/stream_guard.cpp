// SPDX-License-Identifier: BSD-3-Clause
#include "modules/torch/stream_guard.h"

#include <dlfcn.h>

#include "modules/torch/operators.h"

namespace ckpt::torch_module {
namespace {

// Both are in the part of LibTorch that GPUs need, which is not always loaded: so they are looked up.
using Create = AOTITorchError(void* stream, std::int32_t device, void** guard);
using Delete = AOTITorchError(void* guard);

template <typename Function>
Function* function_of(const char* name) {
  auto* found = reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));  // NOLINT
  if (found == nullptr) throw OperatorError(name);
  return found;
}

}  // namespace

StreamGuard::StreamGuard(std::int32_t device, void* stream) {
  if (device < 0) return;
  check(function_of<Create>("aoti_torch_create_cuda_stream_guard")(stream, device, &guard_), "stream guard");
}

StreamGuard::~StreamGuard() {
  if (guard_ != nullptr) function_of<Delete>("aoti_torch_delete_cuda_stream_guard")(guard_);
}

}  // namespace ckpt::torch_module
