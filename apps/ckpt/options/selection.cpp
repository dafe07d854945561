// SPDX-License-Identifier: BSD-3-Clause
#include "options/selection.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "options/input.h"

namespace ckpt::cli {

void OrderedPatterns::attach(CLI::App& app, const Names& first, const Names& second) {
  app_ = &app;
  first_option_ =
      app.add_option(first.option, first_, first.help)->option_text("PATTERN")->allow_extra_args(false);
  second_option_ =
      app.add_option(second.option, second_, second.help)->option_text("PATTERN")->allow_extra_args(false);
}

Result<std::vector<OrderedPattern>> OrderedPatterns::read(bool null) const {
  std::vector<OrderedPattern> out;
  std::size_t firsts = 0;
  std::size_t seconds = 0;
  for (const auto* option : app_->parse_order()) {  // one mention of an option each time it was given
    const bool is_first = option == first_option_;
    if (!is_first && option != second_option_) continue;
    const auto& argument = is_first ? first_[firsts++] : second_[seconds++];
    CKPT_ASSIGN_OR_RETURN(auto patterns, read_patterns(argument, null));
    if (out.empty() && patterns.empty()) {  // the first decides what keys are before any matches
      return Error(ErrorCode::kUsage, fmt::format("{} {}: the list is empty", option->get_name(), argument));
    }
    for (auto& pattern : patterns) out.push_back({is_first, std::move(pattern)});
  }
  return out;
}

void SelectionOptions::attach(CLI::App& app) {
  patterns_.attach(
      app, {"--keep", "Keep the keys that match; repeatable, the last --keep or --drop that matches decides"},
      {"--drop", "Drop the keys that match; repeatable"});
  app.add_flag("-0,--null", null, "Lists in @FILE are separated by NUL, not by newlines");
}

Result<std::vector<NamePattern>> read_patterns(const std::string& argument, bool null) {
  std::vector<NamePattern> patterns;
  if (!argument.starts_with('@')) {
    CKPT_ASSIGN_OR_RETURN(auto pattern, NamePattern::parse(argument));
    patterns.push_back(std::move(pattern));
    return patterns;
  }
  const bool exact = argument.starts_with("@=");
  const auto path = argument.substr(exact ? 2 : 1);
  CKPT_ASSIGN_OR_RETURN(const auto lines, read_lines(path, null));
  for (const auto& line : lines) {
    if (exact) {
      patterns.push_back(NamePattern::exact(line));
      continue;
    }
    auto pattern = NamePattern::parse(line);
    if (!pattern.ok()) return std::move(pattern).error().in_file(path);
    patterns.push_back(std::move(pattern).value());
  }
  return patterns;
}

Result<std::vector<KeyRule>> SelectionOptions::rules() const {
  CKPT_ASSIGN_OR_RETURN(auto patterns, patterns_.read(null));
  std::vector<KeyRule> rules;
  for (auto& [keep, pattern] : patterns) rules.push_back({keep, std::move(pattern)});
  return rules;
}

}  // namespace ckpt::cli
