// SPDX-License-Identifier: BSD-3-Clause
#include "progress_bar.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::cli {
namespace {

constexpr auto kFirstAfter = std::chrono::milliseconds(300);  // short runs show nothing
constexpr auto kEvery = std::chrono::milliseconds(100);
constexpr std::size_t kShortestLabel = 12;  // columns; less of a path tells nothing

/// What the character takes on a terminal, or more: some of those of three bytes and above are wide.
std::size_t columns_of(std::size_t sequence) {
  return sequence > 2 ? 2 : 1;
}

/// The end of a text that fits `columns`, behind "…" if something is missing.
std::string fitted(std::string_view text, std::size_t columns) {
  std::size_t width = 0;
  std::vector<std::pair<std::size_t, std::size_t>> places;  // of characters: byte, columns before
  for (std::size_t at = 0; at < text.size();) {
    places.emplace_back(at, width);
    const auto sequence = std::max<std::size_t>(utf8_sequence(text.substr(at)), 1);
    width += columns_of(sequence);
    at += sequence;
  }
  if (width <= columns) return std::string(text);
  for (const auto& [at, before] : places) {
    if (width - before < columns) return "…" + std::string(text.substr(at));
  }
  return "…";
}

}  // namespace

std::string progress_line(std::string_view label, const ProgressTexts& texts, std::size_t columns) {
  const auto& [percent, amount, rate, left] = texts;
  const auto all = fmt::format("{}  {}  {}  {}", percent, amount, rate, left);
  if (columns == 0) return fmt::format("{} {}", label, all);
  const auto room = columns - 1;  // a character in the last column may begin a new line
  if (room > all.size() + kShortestLabel)
    return fmt::format("{} {}", fitted(label, room - all.size() - 1), all);
  for (const auto& line :
       {all, fmt::format("{}  {}  {}", percent, rate, left), fmt::format("{}  {}", percent, left), percent}) {
    if (line.size() <= room) return line;
  }
  return {};
}

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
  console_.err.format(
      "\r{}\x1b[K",
      progress_line(
          label_,
          {fmt::format("{:3.0f}%", 100.0 * static_cast<double>(done) / static_cast<double>(total)),
           fmt::format("{} of {}", human_bytes(done), human_bytes(total)),
           human_bytes(static_cast<std::uint64_t>(rate)) + "/s", fmt::format("{:.0f} s left", left)},
          console_.err.columns()));
  console_.err.flush();
}

}  // namespace ckpt::cli
