// SPDX-License-Identifier: BSD-3-Clause
// A look at every local header while something else goes on: one small read a record, which for thousands
// of them takes longer than all the rest of an edit.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <stop_token>
#include <thread>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/zip/coverage.h"
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

  /// Does its share of what is left and waits for the rest; then the findings go to `diagnostics`. Throws
  /// what the thread met. Errors: kIo.
  Status finish(Diagnostics& diagnostics);

 private:
  /// Goes through pieces that nobody has begun until there are none.
  Status work(const std::stop_token& stop);
  void run(const std::stop_token& stop) noexcept;

  CoveragePieces pieces_;
  std::atomic<std::size_t> next_ = 0;  ///< the first piece that nobody has begun
  Status status_;                      ///< the first error
  std::exception_ptr failure_;
  std::jthread thread_;  ///< last: it ends before what it uses
};

}  // namespace ckpt
