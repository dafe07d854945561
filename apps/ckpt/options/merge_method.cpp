// SPDX-License-Identifier: BSD-3-Clause
#include "options/merge_method.h"

#include <array>
#include <string_view>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "options/input.h"
#include "options/selection.h"

namespace ckpt::cli {
namespace {

/// "@FILE=0.5" and "@FILE:NAME=0.5" are a setting for each pattern in the file.
template <typename Parse>
Status add_settings(const std::vector<std::string>& texts, std::string_view option, char before_value,
                    Parse parse, std::vector<RecipeSetting>& settings) {
  for (const auto& text : texts) {
    const auto equals = text.rfind('=');
    const auto end = before_value == '=' || equals == text.npos ? equals : text.rfind(before_value, equals);
    const bool is_list = text.starts_with('@') && end != text.npos && end > 1;
    std::vector<NamePattern> patterns;
    if (is_list) {
      CKPT_ASSIGN_OR_RETURN(patterns, read_patterns(text.substr(0, end), false));
    }
    auto setting = parse(is_list ? std::string_view(text).substr(end + 1) : std::string_view(text));
    if (!setting.ok()) {
      return Error(setting.error().code(), fmt::format("{}: {}", option, setting.error().message()))
          .with_hint(setting.error().hint());
    }
    if (!is_list) settings.push_back(*setting);
    for (auto& pattern : patterns)
      settings.push_back({setting->parameter, std::move(pattern), setting->value});
  }
  return {};
}

}  // namespace

void MergeMethodOptions::attach(CLI::App& app) {
  const auto values = [&](const char* name, std::vector<std::string>& out, const char* help,
                          const char* argument) {
    app.add_option(name, out, help)->option_text(argument)->allow_extra_args(false);
  };
  app.add_option("--method", method_,
                 "Compute values of all files: mean, linear, slerp, nuslerp, multislerp or karcher, where "
                 "every file counts, or around BASE task-arithmetic, ties, dare-linear, dare-ties, della, "
                 "della-linear, breadcrumbs, breadcrumbs-ties, model-stock, sce, nearswap, arcee-fusion, "
                 "ram, ram-plus, lora, add-difference, weighted-subtraction, sum-twice or triple-sum")
      ->option_text("METHOD");
  values("--weights", weights_,
         "Weights, one for each file that counts; this and the next ones also for some keys, repeatable, "
         "the last that matches decides; [A,B] goes from the first layer to the last",
         "[PATTERN=]W,...");
  values("--density", density_, "Share of a task vector that is kept, for all files or for each",
         "[PATTERN=]D,...");
  values("--t", t_, "Where between the files the result lies, 0 to 1", "[PATTERN=]T");
  values("--lambda", lambda_, "Factor of the merged task vector", "[PATTERN=]L");
  values("--normalize", normalize_, "Divide by the sum of the weights: yes or no", "[PATTERN=]CHOICE");
  values("--param", parameters_, "Any parameter of the method, by mergekit's name", "[PATTERN:]NAME=VALUE");
  app.add_flag(
      "--around-base", around_base_,
      "nuslerp and multislerp: BASE is the origin that the others are seen from, and does not count");
  app.add_option("--seed", seed_, "Seed of random masks; 0 if not given")->option_text("N");
  app.add_option("--accumulate", accumulate_, "Precision of sums: float64 (the default) or float32")
      ->check(one_of({"float64", "float32"}))
      ->option_text("DTYPE");
  app.add_option("--integers", integers_,
                 "Integers and booleans: equal (they must be the same in all files), first (BASE's), max or "
                 "sum; equal if not given, but num_batches_tracked becomes the largest")
      ->check(one_of({"equal", "first", "max", "sum"}))
      ->option_text("RULE");
  app.add_flag("--allow-unrelated", allow_unrelated_,
               "Merge files whose values have nothing to do with each other");
}

Result<std::optional<MergeRecipe>> MergeMethodOptions::recipe() const {
  struct Values {
    const std::vector<std::string>& texts;
    const char* option;
    MergeParameter parameter;
  };

  const std::array<Values, 5> all = {{{weights_, "--weights", MergeParameter::kWeight},
                                      {density_, "--density", MergeParameter::kDensity},
                                      {t_, "--t", MergeParameter::kT},
                                      {lambda_, "--lambda", MergeParameter::kLambda},
                                      {normalize_, "--normalize", MergeParameter::kNormalize}}};
  if (method_.empty()) {
    const char* said = nullptr;
    for (const auto& values : all) said = values.texts.empty() ? said : values.option;
    if (!parameters_.empty()) said = "--param";
    if (seed_) said = "--seed";
    if (!accumulate_.empty()) said = "--accumulate";
    if (!integers_.empty()) said = "--integers";
    if (around_base_) said = "--around-base";
    if (allow_unrelated_) said = "--allow-unrelated";
    if (said == nullptr) return std::optional<MergeRecipe>();
    return Error(ErrorCode::kUsage, fmt::format("{} goes with --method", said));
  }
  MergeRecipe recipe;
  CKPT_ASSIGN_OR_RETURN(recipe.method, parse_merge_method(method_));
  const auto& method = merge_method_info(recipe.method);
  for (const auto& values : all) {
    const bool of_weights = values.parameter == MergeParameter::kNormalize && !method.has(values.parameter) &&
                            method.has(MergeParameter::kNormalizeWeights);
    const auto parameter = of_weights ? MergeParameter::kNormalizeWeights : values.parameter;
    const auto parse = [&](std::string_view text) { return parse_setting(parameter, text); };
    CKPT_RETURN_IF_ERROR(add_settings(values.texts, values.option, '=', parse, recipe.settings));
  }
  CKPT_RETURN_IF_ERROR(add_settings(parameters_, "--param", ':', parse_named_setting, recipe.settings));
  recipe.seed = static_cast<std::uint64_t>(seed_.value_or(0));
  recipe.accumulate = accumulate_by_name(accumulate_).value_or(recipe.accumulate);
  recipe.integers = integer_rule_by_name(integers_);
  recipe.around_base = around_base_;
  recipe.allow_unrelated = allow_unrelated_;
  return std::optional<MergeRecipe>(std::move(recipe));
}

}  // namespace ckpt::cli
