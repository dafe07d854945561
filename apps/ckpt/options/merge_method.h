// SPDX-License-Identifier: BSD-3-Clause
// The options of `merge --method`.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace ckpt::cli {

class MergeMethodOptions {
 public:
  void attach(CLI::App& app);

  /// None without --method. Reads @FILEs of patterns. Errors: kUsage for methods, parameters and values that
  /// there aren't, and for options that say nothing without --method.
  Result<std::optional<MergeRecipe>> recipe() const;

 private:
  static constexpr std::size_t kOptions = 6;

  /// An option whose values act in one order with those of the others.
  struct Values {
    const char* name;
    std::optional<MergeParameter> parameter;  ///< none: the values name it
    const char* argument;
    const char* help;
    std::vector<std::string> texts{};
    CLI::Option* parsed = nullptr;
  };

  const char* said_without_method() const;
  Status add_values(MergeRecipe& recipe) const;

  const CLI::App* app_ = nullptr;
  std::string method_;
  std::array<Values, kOptions> values_ = {{
      {"--weights", MergeParameter::kWeight, "[PATTERN=]W,...",
       "Weights, one for each file that counts; this and the next ones also for some keys, repeatable, the "
       "last that "
       "matches decides; [A,B] goes from the first layer to the last"},
      {"--density", MergeParameter::kDensity, "[PATTERN=]D,...",
       "Share of a task vector that is kept, for all files or for each"},
      {"--t", MergeParameter::kT, "[PATTERN=]T", "Where between the files the result lies, 0 to 1"},
      {"--lambda", MergeParameter::kLambda, "[PATTERN=]L", "Factor of the merged task vector"},
      {"--normalize", MergeParameter::kNormalize, "[PATTERN=]CHOICE",
       "Divide by the sum of the weights: yes or no"},
      {"--param", std::nullopt, "[PATTERN:]NAME=VALUE", "Any parameter of the method, by mergekit's name"},
  }};
  std::optional<std::string> seed_;
  std::string accumulate_;
  std::string integers_;
  bool around_base_ = false;
  bool allow_unrelated_ = false;
};

}  // namespace ckpt::cli
