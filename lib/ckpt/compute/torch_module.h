// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic by LibTorch, from a module that is opened when it is asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/libtorch.h"
#include "ckpt/compute/tensor_backend.h"

namespace ckpt {

enum class TorchUse : std::uint8_t { kProcessor, kGpu };

class CKPT_EXPORT TorchModule final : public TensorBackend {
 public:
  /// Opens LibTorch and the module, the first time; a process has one LibTorch, so later calls return that
  /// one. It computes with no threads but the calling ones. Not for several threads at once. Errors:
  /// kBackend: there is no LibTorch, it is too old, it has no part for GPUs, or there is no module.
  static Result<std::shared_ptr<const TorchModule>> open(const LibTorchSearch& search, TorchUse use);

  TorchModule(LibTorch libtorch, std::uint64_t version, const CkptKernels& kernels)
      : libtorch_(std::move(libtorch)), version_(version), kernels_(kernels) {}

  std::string name() const override { return "LibTorch " + version(); }

  bool supports(const CkptKernelCall& call) const override { return kernels_.supports(&call) != 0; }

  Status combine(const CkptKernelCall& call, const CkptValues& target) const override;
  Status reduce(const CkptKernelCall& call, std::span<double> results) const override;

  const LibTorch& libtorch() const { return libtorch_; }

  /// LibTorch's: "2.15.0".
  std::string version() const;

 private:
  LibTorch libtorch_;
  std::uint64_t version_;
  const CkptKernels& kernels_;
};

}  // namespace ckpt
