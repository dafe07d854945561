// SPDX-License-Identifier: BSD-3-Clause
// Makes LibTorch work on a stream of somebody else's, as long as the guard lives.
#pragma once

#include <cstdint>

namespace ckpt::torch_module {

class StreamGuard {
 public:
  /// `device`: ordinal of the GPU, or negative: nothing to guard. Throws OperatorError.
  StreamGuard(std::int32_t device, void* stream);
  StreamGuard(const StreamGuard&) = delete;
  StreamGuard& operator=(const StreamGuard&) = delete;
  ~StreamGuard();

 private:
  void* guard_ = nullptr;
};

}  // namespace ckpt::torch_module
