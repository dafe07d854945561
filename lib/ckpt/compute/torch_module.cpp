// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/torch_module.h"

#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/module_file.h"

namespace ckpt {
namespace {

constexpr std::string_view kModule = "libckpt_torch.so";
constexpr std::uint64_t kOldest =
    0x020a000000000000U;  // 2.10: major, minor and patch, from the highest byte on

std::string version_text(std::uint64_t version) {
  const auto byte = [&](unsigned index) { return (version >> (8U * index)) & 0xffU; };
  return fmt::format("{}.{}.{}", byte(7), byte(6), byte(5));
}

/// 0 for releases that don't say.
std::uint64_t version_of(void* library) {
  // The function has been there, under this name, since 2.9.
  auto* ask = reinterpret_cast<std::uint64_t (*)()>(dlsym(library, "aoti_torch_abi_version"));  // NOLINT
  return ask == nullptr ? 0 : ask();
}

Result<std::uint64_t> open_libtorch(const LibTorch& libtorch) {
  // LibTorch would start threads of its own beside ours, which then wait for one another.
  setenv("OMP_NUM_THREADS", "1", 1);  // NOLINT: before there are threads
  CKPT_ASSIGN_OR_RETURN(auto* library, open_library(libtorch.folder + "/libtorch_cpu.so", true));
  const auto version = version_of(library);
  if (version >= kOldest) return version;
  const auto name = version == 0 ? "LibTorch" : "LibTorch " + version_text(version);
  return Error(ErrorCode::kBackend, fmt::format("{} in {} is too old: 2.10 or newer is needed", name,
                                                ckpt::quoted(libtorch.folder)));
}

Result<const CkptKernels*> open_kernels() {
  CKPT_ASSIGN_OR_RETURN(auto* symbol, open_module(kModule, CKPT_KERNELS_SYMBOL));
  const auto* kernels = reinterpret_cast<CkptKernelsModule>(symbol)(CKPT_MODULE_ABI_VERSION);  // NOLINT
  if (kernels != nullptr && kernels->size >= sizeof(CkptKernels)) return kernels;
  return Error(ErrorCode::kBackend,
               fmt::format("the module {} is of another version of ckpt", ckpt::quoted(kModule)));
}

Result<std::shared_ptr<const TorchModule>> load(const LibTorchSearch& search, TorchUse use) {
  CKPT_ASSIGN_OR_RETURN(auto libtorch, find_libtorch(search));
  CKPT_ASSIGN_OR_RETURN(const auto version, open_libtorch(libtorch));
  if (use == TorchUse::kGpu) {
    auto opened = open_library(libtorch.folder + "/libtorch_cuda.so", true);
    if (!opened.ok())
      return std::move(opened).error().with_hint("a GPU needs a PyTorch that was built for CUDA, all of it");
  }
  CKPT_ASSIGN_OR_RETURN(const auto* kernels, open_kernels());
  return std::shared_ptr<const TorchModule>(
      std::make_shared<const TorchModule>(std::move(libtorch), version, *kernels));
}

Status status_of(CkptCode code, const CkptFailure& failure) {
  if (code == CKPT_OK) return {};
  return Error(ErrorCode::kBackend, failure.text);
}

}  // namespace

std::string TorchModule::version() const {
  return version_text(version_);
}

Status TorchModule::combine(const CkptKernelCall& call, const CkptValues& target) const {
  CkptFailure failure;
  return status_of(kernels_.combine(&call, &target, &failure), failure);
}

Status TorchModule::reduce(const CkptKernelCall& call, std::span<double> results) const {
  CkptFailure failure;
  return status_of(kernels_.reduce(&call, results.data(), results.size(), &failure), failure);
}

Result<std::shared_ptr<const TorchModule>> TorchModule::open(const LibTorchSearch& search, TorchUse use) {
  static std::shared_ptr<const TorchModule> opened;
  if (!opened) {
    CKPT_ASSIGN_OR_RETURN(opened, load(search, use));
  }
  return opened;
}

}  // namespace ckpt
