// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/header_check.h"

#include <system_error>
#include <utility>

#include "ckpt/io/blocked_signals.h"

namespace ckpt {
HeaderCheck::HeaderCheck(const ByteSource& source, const EntryTable& table, Extent central)
    : pieces_(source, table, central) {
  const BlockedSignals blocked;
  try {
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  } catch (const std::system_error&) {  // no thread to be had
  }
}

Status HeaderCheck::finish(Diagnostics& diagnostics) {
  auto own_share = work({});
  if (thread_.joinable()) thread_.join();
  if (failure_) std::rethrow_exception(failure_);
  if (status_.ok()) status_ = std::move(own_share);
  CKPT_RETURN_IF_ERROR(status_);
  return pieces_.report(diagnostics);
}

Status HeaderCheck::work(const std::stop_token& stop) {
  for (auto piece = next_++; piece < pieces_.size(); piece = next_++) {
    CKPT_RETURN_IF_ERROR(pieces_.run(piece, stop));
  }
  return {};
}

void HeaderCheck::run(const std::stop_token& stop) noexcept {
  try {
    status_ = work(stop);
  } catch (...) {  // memory ran out: for the thread that asks to say
    failure_ = std::current_exception();
  }
}

}  // namespace ckpt
