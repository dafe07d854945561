// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <signal.h>  // NOLINT: pthread_sigmask is not in <csignal>

namespace ckpt {

/// While it lives, the calling thread takes none of `signals`, nor does a thread that it starts. Without
/// `signals` all are meant: for helping threads, as signals go to the one whose handlers know what to clean
/// up.
class BlockedSignals {
 public:
  BlockedSignals() : BlockedSignals(all()) {}

  explicit BlockedSignals(const sigset_t& signals) { ::pthread_sigmask(SIG_BLOCK, &signals, &before_); }

  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  static sigset_t all() {
    sigset_t signals;
    sigfillset(&signals);
    return signals;
  }

  sigset_t before_{};
};

}  // namespace ckpt
