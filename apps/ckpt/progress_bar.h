// SPDX-License-Identifier: BSD-3-Clause
// Progress on a terminal: one line that is drawn again, with rate and time left.
#pragma once

#include <chrono>
#include <string>

#include "ckpt/base/progress.h"
#include "console.h"

namespace ckpt::cli {

class ProgressBar final : public Progress {
 public:
  ProgressBar(Console& console, std::string label);
  ~ProgressBar() override;  ///< takes the line away
  void report(std::uint64_t done, std::uint64_t total) override;

  /// Should this console show one?
  static bool wanted(const Console& console);

 private:
  using Clock = std::chrono::steady_clock;
  Console& console_;
  std::string label_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point next_;
  bool drawn_ = false;
};

}  // namespace ckpt::cli
