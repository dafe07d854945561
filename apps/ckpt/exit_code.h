// SPDX-License-Identifier: BSD-3-Clause
// Exit status, as docs/reference/exit-status.md promises it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ckpt::cli {

enum class ExitCode : std::uint8_t {
  kDone = 0,
  kAnswerIsNo = 1,    ///< differences, findings, --must-change or --strict not met
  kCouldNotDoIt = 2,  ///< usage, unreadable, refused, I/O
};

inline ExitCode worse(ExitCode a, ExitCode b) {
  return std::max(a, b);
}

}  // namespace ckpt::cli
