// SPDX-License-Identifier: BSD-3-Clause
#include "options/selection.h"

#include <CLI/CLI.hpp>

#include "options/input.h"

namespace ckpt::cli {

void SelectionOptions::attach(CLI::App& app) {
  app_ = &app;
  keep_option_ =
      app.add_option("--keep", keep,
                     "Keep the keys that match; repeatable, the last --keep or --drop that matches decides")
          ->option_text("PATTERN")
          ->allow_extra_args(false);
  drop_option_ = app.add_option("--drop", drop, "Drop the keys that match; repeatable")
                     ->option_text("PATTERN")
                     ->allow_extra_args(false);
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
  std::vector<KeyRule> rules;
  std::size_t kept = 0;
  std::size_t dropped = 0;
  for (const auto* option : app_->parse_order()) {  // one mention of an option each time it was given
    const bool is_keep = option == keep_option_;
    if (!is_keep && option != drop_option_) continue;
    const auto& argument = is_keep ? keep[kept++] : drop[dropped++];
    CKPT_ASSIGN_OR_RETURN(auto patterns, read_patterns(argument, null));
    for (auto& pattern : patterns) rules.push_back({is_keep, std::move(pattern)});
  }
  return rules;
}

}  // namespace ckpt::cli
