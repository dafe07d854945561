// SPDX-License-Identifier: BSD-3-Clause
// How the values of several files become one: a method, and what its parameters are set to, for all keys or
// for some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/merge_method.h"
#include "ckpt/edit/merge_value.h"
#include "ckpt/model/name_pattern.h"

namespace ckpt {

/// One --weights, --density or --param.
struct RecipeSetting {
  MergeParameter parameter = MergeParameter::kWeight;
  std::optional<NamePattern> keys;  ///< none: all
  MergeValue value;
};

struct MergeRecipe {
  MergeMethod method = MergeMethod::kMean;
  std::vector<RecipeSetting> settings;  ///< for a key the last one of a parameter that matches decides
  bool around_base = false;  ///< of methods that may have a base: the first file is the origin and no input
  std::uint64_t seed = 0;    ///< of random masks
  Accumulate accumulate = Accumulate::kFloat64;
  std::optional<IntegerRule> integers;  ///< none: equal, but counters of batches become the largest
  bool allow_unrelated = false;         ///< else files whose values point elsewhere are refused

  bool has_base() const { return merge_method_info(method).base == MergeBase::kRequired || around_base; }

  /// That a tensor is merged from, the base's too.
  std::size_t least_files() const {
    const auto& info = merge_method_info(method);
    return info.least + (info.base == MergeBase::kOptional && around_base ? 1 : 0);
  }

  /// What the method is told about a key at a depth of the model, from 0 to 1. `files`: the base too.
  /// Precondition: `check_recipe`.
  CKPT_EXPORT MergeParameters parameters_for(std::string_view key, double depth, std::size_t files) const;
};

/// Errors: kUsage, with the nearest name.
CKPT_EXPORT Result<MergeMethod> parse_merge_method(std::string_view name);
CKPT_EXPORT Result<MergeParameter> parse_merge_parameter(std::string_view name);

/// "equal", "max". Errors: kUsage with the words that there are.
CKPT_EXPORT Result<IntegerRule> parse_integer_rule(std::string_view name);
CKPT_EXPORT std::string_view integer_rule_name(IntegerRule rule);

/// Does the method thin at random, so that it depends on a seed?
CKPT_EXPORT bool draws_masks(MergeMethod method);

/// What the parameter is set to: numbers, yes or no, or its words. Errors: kUsage.
CKPT_EXPORT Result<MergeValue> parse_parameter_value(MergeParameter parameter, std::string_view text);

/// "0.5,0.2" or "layer4=0.5,0.2": split at the last '='. Errors: kUsage.
CKPT_EXPORT Result<RecipeSetting> parse_setting(MergeParameter parameter, std::string_view text);
/// "epsilon=0.1" or "layer4:epsilon=0.1": split at the last '=', then at the last ':'. Errors: kUsage, for
/// names with the nearest that the method has.
CKPT_EXPORT Result<RecipeSetting> parse_named_setting(std::string_view text, MergeMethod method);

/// The setting's value as plans and reports spell it.
CKPT_EXPORT std::string setting_value_text(const RecipeSetting& setting);

/// Does the method know all parameters of the settings, is what it needs there, are there values for `files`
/// files (the base too), and do these lie in their ranges? Errors: kUsage, with the nearest name.
CKPT_EXPORT Status check_recipe(const MergeRecipe& recipe, std::size_t files);

}  // namespace ckpt
