// SPDX-License-Identifier: BSD-3-Clause
// A look at every local header while something else goes on: one small read a record, which for thousands
// of them takes longer than all the rest of an edit.
#pragma once

#include <exception>
#include <stop_token>
#include <thread>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/zip/entry_table.h"

namespace ckpt {

class HeaderCheck {
 public:
  /// Begins at once, in a thread of its own that takes no signals; where none can be had, `finish` does it
  /// all. Source and table must outlive this. Ends early when it is destroyed.
  HeaderCheck(const ByteSource& source, const EntryTable& table, Extent central);

  HeaderCheck(const HeaderCheck&) = delete;
  HeaderCheck& operator=(const HeaderCheck&) = delete;
  ~HeaderCheck() = default;

  /// Waits; then the findings go to `diagnostics`. Throws what the thread met. Errors: kIo.
  Status finish(Diagnostics& diagnostics);

 private:
  void run(const std::stop_token& stop) noexcept;

  const ByteSource& source_;
  const EntryTable& table_;
  Extent central_;
  Diagnostics found_;
  Status status_;
  std::exception_ptr failure_;
  bool done_ = false;
  std::jthread thread_;  ///< last: it ends before what it uses
};

}  // namespace ckpt
