// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <signal.h>  // NOLINT: pthread_sigmask is not in <csignal>

namespace ckpt {

/// While it lives, the calling thread takes none of `signals`, nor does a thread that it starts.
class BlockedSignals {
 public:
  explicit BlockedSignals(const sigset_t& signals) { ::pthread_sigmask(SIG_BLOCK, &signals, &before_); }

  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace ckpt
