// SPDX-License-Identifier: BSD-3-Clause
// --keep and --drop, in the order in which they were given.
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

struct SelectionOptions {
  std::vector<std::string> keep;
  std::vector<std::string> drop;
  bool null = false;

  void attach(CLI::App& app);
  /// Reads @FILEs. Errors: kUsage for patterns, kNotFound and kIo for files.
  Result<std::vector<KeyRule>> rules() const;

 private:
  const CLI::App* app_ = nullptr;
  const CLI::Option* keep_option_ = nullptr;
  const CLI::Option* drop_option_ = nullptr;
};

/// A pattern argument: one pattern, or those of @FILE, @=FILE.
Result<std::vector<NamePattern>> read_patterns(const std::string& argument, bool null);

}  // namespace ckpt::cli
