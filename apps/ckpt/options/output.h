// SPDX-License-Identifier: BSD-3-Clause
// Where results of editing commands go.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

struct OutputFlags {
  std::string output;
  bool in_place = false;
  bool force = false;
  bool dry_run = false;
  bool print_plan = false;
  bool must_change = false;
  bool verify = false;
  bool no_fsync = false;
  bool allow_unmatched = false;
  std::string optimizer;
  std::string to;
  std::string tied;

  void attach(CLI::App& app);

  OptimizerPolicy optimizer_policy() const;
  Target target() const;
  /// kUsage for combinations that make no sense, before any file is read.
  Status check(const std::vector<std::string>& inputs) const;
  bool is_directory() const;
  /// The output of `input`.
  std::string path_for(const std::string& input) const;
};

}  // namespace ckpt::cli
