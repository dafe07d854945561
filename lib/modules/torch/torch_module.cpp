// SPDX-License-Identifier: BSD-3-Clause
// The table of libckpt_torch.so, and the wall that no exception passes.
#include <algorithm>
#include <cstring>
#include <exception>
#include <string_view>

#include "modules/torch/kernels.h"

namespace ckpt::torch_module {
namespace {

constexpr std::string_view kNoSuchPass = "LibTorch's back end has no such pass";

CkptCode fail(CkptCode code, std::string_view text, CkptFailure& failure) {
  const auto size = text.copy(failure.text, sizeof(failure.text) - 1);
  failure.text[size] = '\0';
  return code;
}

template <typename Work>
CkptCode guarded(CkptFailure& failure, const Work& work) noexcept {
  try {
    return work();
  } catch (const std::exception& error) {
    return fail(CKPT_FAILED, error.what(), failure);
  } catch (...) {
    return fail(CKPT_FAILED, "LibTorch failed", failure);
  }
}

int32_t supports_call(const CkptKernelCall* call) {
  return supports(*call) ? 1 : 0;
}

CkptCode combine_call(const CkptKernelCall* call, const CkptValues* target, CkptFailure* failure) {
  return guarded(*failure, [&] {
    if (!supports(*call) || result_count(*call) != 0) return fail(CKPT_UNSUPPORTED, kNoSuchPass, *failure);
    combine(*call, *target);
    return CKPT_OK;
  });
}

CkptCode reduce_call(const CkptKernelCall* call, double* results, size_t count, CkptFailure* failure) {
  return guarded(*failure, [&] {
    if (!supports(*call) || count == 0 || result_count(*call) != count)
      return fail(CKPT_UNSUPPORTED, kNoSuchPass, *failure);
    reduce(*call, results);
    return CKPT_OK;
  });
}

constexpr CkptKernels kTable = {
    .size = sizeof(CkptKernels),
    .version = CKPT_MODULE_ABI_VERSION,
    .supports = supports_call,
    .combine = combine_call,
    .reduce = reduce_call,
};

}  // namespace
}  // namespace ckpt::torch_module

extern "C" __attribute__((visibility("default"))) const CkptKernels* ckpt_kernels_module(uint32_t version) {
  return version == CKPT_MODULE_ABI_VERSION ? &ckpt::torch_module::kTable : nullptr;
}
