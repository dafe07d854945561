// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/header_check.h"

#include <system_error>

#include "ckpt/io/blocked_signals.h"
#include "ckpt/zip/coverage.h"

namespace ckpt {
HeaderCheck::HeaderCheck(const ByteSource& source, const EntryTable& table, Extent central)
    : source_(source), table_(table), central_(central) {
  sigset_t all;
  sigfillset(&all);
  const BlockedSignals blocked(all);  // signals go to the thread whose handlers know what to clean up
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
  if (failure_) std::rethrow_exception(failure_);
  CKPT_RETURN_IF_ERROR(status_);
  for (const auto& finding : found_.findings()) diagnostics.add(finding);
  return {};
}

void HeaderCheck::run(const std::stop_token& stop) noexcept {
  try {
    status_ = check_coverage(source_, table_, central_, LocalHeaders::kRead, found_, stop);
  } catch (...) {  // memory ran out: for the thread that asks to say
    failure_ = std::current_exception();
  }
}

}  // namespace ckpt
