// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/header_check.h"

#include <csignal>
#include <system_error>

#include "ckpt/zip/coverage.h"

namespace ckpt {
namespace {

/// Threads inherit what is blocked: signals go to the thread whose handlers know what to clean up.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }

  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace

HeaderCheck::HeaderCheck(const ByteSource& source, const EntryTable& table, Extent central)
    : source_(source), table_(table), central_(central) {
  const BlockedSignals blocked;
  try {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  } catch (const std::system_error&) {  // no thread to be had
  }
}

Status HeaderCheck::finish(Diagnostics& diagnostics) {
  if (thread_.joinable()) {
    thread_.join();
  } else if (!done_) {
    run({});
  }
  done_ = true;
  CKPT_RETURN_IF_ERROR(status_);
  for (const auto& finding : found_.findings()) diagnostics.add(finding);
  return {};
}

void HeaderCheck::run(const std::stop_token& stop) {
  status_ = check_coverage(source_, table_, central_, LocalHeaders::kRead, found_, stop);
}

}  // namespace ckpt
