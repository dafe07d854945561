// SPDX-License-Identifier: BSD-3-Clause
// The options of `merge --method`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

class MergeMethodOptions {
 public:
  void attach(CLI::App& app);

  /// None without --method. Reads @FILEs of patterns. Errors: kUsage for methods, parameters and values that
  /// there aren't, and for options that say nothing without --method.
  Result<std::optional<MergeRecipe>> recipe() const;

 private:
  std::string method_;
  std::vector<std::string> weights_;
  std::vector<std::string> density_;
  std::vector<std::string> t_;
  std::vector<std::string> lambda_;
  std::vector<std::string> normalize_;
  std::vector<std::string> parameters_;
  std::optional<std::int64_t> seed_;
  std::string accumulate_;
  std::string integers_;
  bool around_base_ = false;
  bool allow_unrelated_ = false;
};

}  // namespace ckpt::cli
