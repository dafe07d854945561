// SPDX-License-Identifier: BSD-3-Clause
// Who may make passes over values in place of the native kernels.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"

namespace ckpt {

/// A whole pass of module_abi.h, for inputs that are not read yet.
struct BackendPass {
  CkptKernel kernel = CKPT_LINEAR;
  std::vector<std::size_t> inputs;  ///< which, in the kernel's order
  std::vector<double> parameters;
  std::vector<CkptMask> masks;
};

/// Passes as module_abi.h describes them. For any number of threads at once.
class CKPT_EXPORT TensorBackend {
 public:
  TensorBackend() = default;
  TensorBackend(const TensorBackend&) = delete;
  TensorBackend& operator=(const TensorBackend&) = delete;
  virtual ~TensorBackend() = default;

  /// For people: "LibTorch 2.15.0".
  virtual std::string name() const = 0;

  /// Values that it would rather be given at once; 0: as many as fit a cache.
  virtual std::uint64_t preferred_count() const { return 0; }

  /// What it declines is for the native kernels.
  virtual bool supports(const CkptKernelCall& call) const = 0;

  /// Did the user ask for its sums? They are not the native ones to the last bit, and neither is what is
  /// made with them; so nobody takes them unasked.
  virtual bool makes_sums() const { return false; }

  /// Precondition of both: `supports`. Errors: kBackend.
  virtual Status combine(const CkptKernelCall& call, const CkptValues& target) const = 0;
  virtual Status reduce(const CkptKernelCall& call, std::span<double> results) const = 0;

  /// Notes values of results, which it made or which it left to the native kernels.
  void note_work(std::uint64_t values, bool computed) const { (computed ? computed_ : left_) += values; }

  std::uint64_t computed() const { return computed_; }

  std::uint64_t left() const { return left_; }

  /// Notes values that it summed up in a pass before the result.
  void note_sums(std::uint64_t values) const { summed_ += values; }

  std::uint64_t summed() const { return summed_; }

 private:
  mutable std::atomic<std::uint64_t> computed_ = 0;
  mutable std::atomic<std::uint64_t> left_ = 0;
  mutable std::atomic<std::uint64_t> summed_ = 0;
};

}  // namespace ckpt
