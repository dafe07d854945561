// SPDX-License-Identifier: BSD-3-Clause
// Patterns on the command line: --keep and --drop, and other pairs of options that act in the order in which
// they were given.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ckpt::cli {

/// A pattern, and which of two options it was given to.
struct OrderedPattern {
  bool is_first = false;
  NamePattern pattern;
};

/// Two repeatable options whose patterns act in one order.
class OrderedPatterns {
 public:
  struct Names {
    const char* option;
    const char* help;
  };

  void attach(CLI::App& app, const Names& first, const Names& second);
  /// Reads @FILEs, whose lines end in NUL with `null`. Errors: kUsage for patterns, and for a first list
  /// that is empty; kNotFound and kIo for files.
  Result<std::vector<OrderedPattern>> read(bool null) const;

 private:
  std::vector<std::string> first_;
  std::vector<std::string> second_;
  const CLI::App* app_ = nullptr;
  const CLI::Option* first_option_ = nullptr;
  const CLI::Option* second_option_ = nullptr;
};

struct SelectionOptions {
  bool null = false;

  void attach(CLI::App& app);
  /// Errors: those of OrderedPatterns.
  Result<std::vector<KeyRule>> rules() const;

 private:
  OrderedPatterns patterns_;
};

/// A pattern argument: one pattern, or those of @FILE, @=FILE.
Result<std::vector<NamePattern>> read_patterns(const std::string& argument, bool null);

}  // namespace ckpt::cli
