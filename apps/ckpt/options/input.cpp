// SPDX-License-Identifier: BSD-3-Clause
#include "options/input.h"

#include <algorithm>
#include <charconv>
#include <span>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/io/whole_file.h"
#include "ckpt/model/key_path.h"

namespace ckpt::cli {
namespace {

constexpr std::uint64_t kLargestList = 256ULL << 20U;  // bytes of a file of patterns or keys

}  // namespace

void InputOptions::attach(CLI::App& app) {
  app.add_option("FILE", files, "Checkpoint files; '-' is standard input")->required()->option_text(" ");
  app.add_option("--root", roots,
                 "Path of a state dict, or of any mapping with string keys, to act on; repeatable. Default: "
                 "every state dict of the file")
      ->check(check_path)
      ->option_text("PATH")
      ->allow_extra_args(false);
}

Result<std::shared_ptr<const ByteSource>> open_input(const std::string& path,
                                                     const std::string& output_directory) {
  auto source = path == "-" ? open_standard_input(output_directory) : open_file_source(path);
  if (!source.ok()) return std::move(source).error().in_file(path == "-" ? "standard input" : path);
  return source;
}

std::string check_number(const std::string& text) {
  std::uint64_t number = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, number);
  return ec == std::errc() && stop == end ? std::string()
                                          : "expected a whole number from 0 to 2^64 - 1, found " + text;
}

std::optional<std::uint64_t> parse_seed(std::string_view word) {
  std::uint64_t seed = 0;
  std::int64_t below_zero = 0;
  const auto* const end = word.data() + word.size();
  const auto [stop, ec] = word.starts_with('-') ? std::from_chars(word.data(), end, below_zero)
                                                : std::from_chars(word.data(), end, seed);
  if (ec != std::errc() || stop != end) return std::nullopt;
  return word.starts_with('-') ? static_cast<std::uint64_t>(below_zero) : seed;
}

std::string check_seed(const std::string& text) {
  return parse_seed(text) ? std::string() : "expected a whole number from -2^63 to 2^64 - 1, found " + text;
}

std::string check_path(const std::string& text) {
  const auto steps = parse_path(text);
  return steps.ok() ? std::string() : steps.error().message();
}

std::function<std::string(const std::string&)> one_of(std::vector<std::string> words) {
  return [words = std::move(words)](const std::string& text) -> std::string {
    if (std::find(words.begin(), words.end(), text) != words.end()) return {};
    const std::span most(words.begin(), words.end() - 1);
    return fmt::format("expected {} or {}, found {}", fmt::join(most, ", "), words.back(), text);
  };
}

Result<std::vector<std::string>> read_lines(const std::string& path, bool null) {
  CKPT_ASSIGN_OR_RETURN(const auto list, read_whole_file(path, kLargestList));
  std::vector<std::string> lines;
  std::string_view text = list;
  const char end = null ? '\0' : '\n';
  while (!text.empty()) {
    const auto at = text.find(end);
    auto line = text.substr(0, at);
    text.remove_prefix(at == text.npos ? text.size() : at + 1);
    if (!null && line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() || null) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace ckpt::cli
