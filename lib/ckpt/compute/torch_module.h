// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic by LibTorch, from a module that is opened when it is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/libtorch.h"
#include "ckpt/compute/module_abi.h"

namespace ckpt {

enum class TorchUse : std::uint8_t { kProcessor, kGpu };

class CKPT_EXPORT TorchModule {
 public:
  /// Opens LibTorch and the module, the first time; a process has one LibTorch, so later calls return that
  /// one. Computes with one thread for each thread that calls. Not for several threads at once. Errors:
  /// kBackend: there is no LibTorch, it is too old, it has no part for GPUs, or there is no module.
  static Result<const TorchModule*> open(const LibTorchSearch& search, TorchUse use);

  const CkptKernels& kernels() const { return *kernels_; }

  const LibTorch& libtorch() const { return libtorch_; }

  /// LibTorch's: "2.15.0".
  std::string version() const;

 private:
  TorchModule(LibTorch libtorch, std::uint64_t version, const CkptKernels* kernels)
      : libtorch_(std::move(libtorch)), version_(version), kernels_(kernels) {}

  static Result<TorchModule> load(const LibTorchSearch& search, TorchUse use);

  LibTorch libtorch_;
  std::uint64_t version_;
  const CkptKernels* kernels_;
};

}  // namespace ckpt
