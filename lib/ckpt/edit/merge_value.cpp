// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

constexpr std::string_view kNumber = "a number";

std::optional<double> number(std::string_view text, std::span<const std::string_view> words) {
  const auto word = std::find(words.begin(), words.end(), text);
  if (word != words.end()) return static_cast<double>(word - words.begin());
  if (!words.empty()) return std::nullopt;
  if (text == "yes" || text == "true") return 1;
  if (text == "no" || text == "false") return 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

Error no_value(std::string_view text, std::string_view found, std::string_view expected) {
  Error error(ErrorCode::kUsage,
              fmt::format("{}: expected {}, found {}", quoted(text), expected, quoted(found)));
  if (expected != kNumber) return error;
  return std::move(error).with_hint(
      "a value is a number, or one for each file (0.5,0.2), each perhaps a list over the layers ([0,1])");
}

/// `expected`: for messages.
Result<MergeValue> parse(std::string_view text, std::span<const std::string_view> words,
                         std::string_view expected) {
  MergeValue value;
  bool in_list = false;
  bool list_ended = false;
  for (std::size_t begin = 0; begin <= text.size();) {
    const auto end = std::min(text.find(',', begin), text.size());
    auto word = trimmed(text.substr(begin, end - begin));
    begin = end + 1;
    const auto found = word;
    if (!in_list) {
      value.files.emplace_back();
      in_list = word.starts_with('[');
      if (in_list) word.remove_prefix(1);
    }
    list_ended = in_list && word.ends_with(']');
    if (list_ended) word.remove_suffix(1);
    const auto parsed = number(trimmed(word), words);
    if (!parsed) return no_value(text, found, expected);
    value.files.back().push_back(*parsed);
    in_list = in_list && !list_ended;
  }
  if (in_list) return Error(ErrorCode::kUsage, fmt::format("{}: expected ']' at its end", quoted(text)));
  return value;
}

}  // namespace

double MergeValue::at(std::size_t file, double depth, bool steps) const {
  const auto& values = files.size() == 1 ? files.front() : files[file];
  const auto scaled = depth * static_cast<double>(values.size() - 1);
  const auto first = static_cast<std::size_t>(scaled);
  if (steps || first + 1 >= values.size()) return values[std::min(first, values.size() - 1)];
  const auto part = scaled - static_cast<double>(first);
  return (1 - part) * values[first] + part * values[first + 1];
}

Result<MergeValue> parse_merge_value(std::string_view text, std::span<const std::string_view> words) {
  return parse(text, words,
               words.empty() ? std::string(kNumber) : fmt::format("{}", fmt::join(words, " or ")));
}

Result<MergeValue> parse_merge_flag(std::string_view text) {
  return parse(text, {}, "yes or no");
}

std::string merge_value_text(const MergeValue& value, std::span<const std::string_view> words) {
  const auto text_of = [&](double number) {
    return words.empty() ? fmt::format("{}", number) : std::string(words[static_cast<std::size_t>(number)]);
  };
  std::vector<std::string> files;
  for (const auto& file : value.files) {
    std::vector<std::string> depths;
    for (const auto number : file) depths.push_back(text_of(number));
    files.push_back(depths.size() == 1 ? depths.front() : fmt::format("[{}]", fmt::join(depths, ",")));
  }
  return fmt::format("{}", fmt::join(files, ","));
}

}  // namespace ckpt
