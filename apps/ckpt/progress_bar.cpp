// SPDX-License-Identifier: BSD-3-Clause
#include "progress_bar.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::cli {
namespace {

constexpr auto kFirstAfter = std::chrono::milliseconds(300);  // short runs show nothing
constexpr auto kEvery = std::chrono::milliseconds(100);

}  // namespace

ProgressBar::ProgressBar(Console& console, std::string label)
    : console_(console), label_(std::move(label)), next_(start_ + kFirstAfter) {
  if (console.progress == When::kAlways) next_ = start_;
}

ProgressBar::~ProgressBar() {
  if (!drawn_) return;
  console_.err.print("\r\x1b[K");
  console_.err.flush();
}

bool ProgressBar::wanted(const Console& console) {
  return console.progress == When::kAlways ||
         (console.progress == When::kAuto && console.err_is_terminal && !console.quiet && !console.json);
}

void ProgressBar::report(std::uint64_t done, std::uint64_t total) {
  const auto now = Clock::now();
  if (now < next_ || total == 0) return;
  next_ = now + kEvery;
  drawn_ = true;
  const auto seconds = std::chrono::duration<double>(now - start_).count();
  const auto rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
  const auto left = rate > 0 ? static_cast<double>(total - done) / rate : 0;
  console_.err.format("\r{} {:3.0f}%  {} of {}  {}/s  {:.0f} s left\x1b[K", label_,
                      100.0 * static_cast<double>(done) / static_cast<double>(total), human_bytes(done),
                      human_bytes(total), human_bytes(static_cast<std::uint64_t>(rate)), left);
  console_.err.flush();
}

}  // namespace ckpt::cli
