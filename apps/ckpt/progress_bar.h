// SPDX-License-Identifier: BSD-3-Clause
// Progress on a terminal: one line that is drawn again, with rate and time left.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "ckpt/base/progress.h"
#include "console.h"

namespace ckpt::cli {

/// What a line of progress says: "42%", "1.2 GB of 4.5 GB", "870 MB/s", "4 s left".
struct ProgressTexts {
  std::string percent;
  std::string amount;
  std::string rate;
  std::string left;
};

/// A line for a terminal of so many columns: where they are few the label loses its beginning, or goes, and
/// then other texts. 0: as long as it is.
std::string progress_line(std::string_view label, const ProgressTexts& texts, std::size_t columns);

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
