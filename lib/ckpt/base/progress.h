// SPDX-License-Identifier: BSD-3-Clause
// How the library tells that a long run moves on.
#pragma once

#include <cstdint>

namespace ckpt {

/// Told from time to time, on the thread that does the work. Implementations must be quick.
class Progress {
 public:
  Progress() = default;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  virtual ~Progress() = default;

  /// Bytes written or read so far, and in the end.
  virtual void report(std::uint64_t done, std::uint64_t total) = 0;
};

}  // namespace ckpt
