// SPDX-License-Identifier: BSD-3-Clause
// Who may make passes over values in place of the native kernels.
#pragma once

#include <span>
#include <string>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"

namespace ckpt {

/// Passes as module_abi.h describes them. For any number of threads at once.
class CKPT_EXPORT TensorBackend {
 public:
  TensorBackend() = default;
  TensorBackend(const TensorBackend&) = delete;
  TensorBackend& operator=(const TensorBackend&) = delete;
  virtual ~TensorBackend() = default;

  /// For people: "LibTorch 2.15.0".
  virtual std::string name() const = 0;

  /// What it declines is for the native kernels.
  virtual bool supports(const CkptKernelCall& call) const = 0;

  /// Precondition of both: `supports`. Errors: kBackend.
  virtual Status combine(const CkptKernelCall& call, const CkptValues& target) const = 0;
  virtual Status reduce(const CkptKernelCall& call, std::span<double> results) const = 0;
};

}  // namespace ckpt
