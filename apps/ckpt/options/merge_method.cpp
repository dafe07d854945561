// SPDX-License-Identifier: BSD-3-Clause
#include "options/merge_method.h"

#include <algorithm>
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
Status add_settings(const std::string& text, std::string_view option, char before_value, Parse parse,
                    std::vector<RecipeSetting>& settings) {
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
  for (auto& pattern : patterns) settings.push_back({setting->parameter, std::move(pattern), setting->value});
  return {};
}

Error no_seed_needed(const MergeMethodInfo& method) {
  std::vector<std::string_view> random;
  for (const auto& info : all_merge_methods()) {
    if (draws_masks(info.method)) random.push_back(info.name);
  }
  return Error(ErrorCode::kUsage, fmt::format("--seed means nothing to {}, which draws no random masks",
                                              ckpt::quoted(method.name)))
      .with_hint(fmt::format("it goes with {}", fmt::join(random, ", ")));
}

}  // namespace

void MergeMethodOptions::attach(CLI::App& app) {
  app_ = &app;
  app.add_option("--method", method_,
                 "Compute values of all files: mean, linear, slerp, nuslerp, multislerp or karcher, where "
                 "every file counts, or around BASE task-arithmetic, ties, dare-linear, dare-ties, della, "
                 "della-linear, breadcrumbs, breadcrumbs-ties, model-stock, sce, nearswap, arcee-fusion, "
                 "ram, ram-plus, lora, add-difference, weighted-subtraction, sum-twice or triple-sum")
      ->option_text("METHOD");
  for (auto& option : values_) {
    option.parsed = app.add_option(option.name, option.texts, option.help);
    option.parsed->option_text(option.argument)->allow_extra_args(false);
  }
  app.add_flag(
      "--around-base", around_base_,
      "nuslerp and multislerp: BASE is the origin that the others are seen from, and does not count");
  app.add_option("--seed", seed_, "Seed of random masks, as torch.manual_seed takes it; 0 if not given")
      ->check(check_seed)
      ->option_text("N");
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

const char* MergeMethodOptions::said_without_method() const {
  const char* said = nullptr;
  for (const auto& option : values_) said = option.texts.empty() ? said : option.name;
  if (seed_) said = "--seed";
  if (!accumulate_.empty()) said = "--accumulate";
  if (!integers_.empty()) said = "--integers";
  if (around_base_) said = "--around-base";
  if (allow_unrelated_) said = "--allow-unrelated";
  return said;
}

/// In the order of the command line, whichever option says it: the last that matches a key decides.
Status MergeMethodOptions::add_values(MergeRecipe& recipe) const {
  const auto& method = merge_method_info(recipe.method);
  std::array<std::size_t, kOptions> next{};
  for (const auto* parsed : app_->parse_order()) {  // one mention of an option each time it was given
    const auto option =
        std::find_if(values_.begin(), values_.end(), [&](const auto& one) { return one.parsed == parsed; });
    if (option == values_.end()) continue;
    const auto& text = option->texts[next[static_cast<std::size_t>(option - values_.begin())]++];
    if (!option->parameter) {
      const auto parse = [&](std::string_view named) { return parse_named_setting(named, recipe.method); };
      CKPT_RETURN_IF_ERROR(add_settings(text, option->name, ':', parse, recipe.settings));
      continue;
    }
    const bool of_weights = option->parameter == MergeParameter::kNormalize &&
                            !method.has(MergeParameter::kNormalize) &&
                            method.has(MergeParameter::kNormalizeWeights);
    const auto parameter = of_weights ? MergeParameter::kNormalizeWeights : *option->parameter;
    const auto parse = [&](std::string_view value) { return parse_setting(parameter, value); };
    CKPT_RETURN_IF_ERROR(add_settings(text, option->name, '=', parse, recipe.settings));
  }
  return {};
}

Result<std::optional<MergeRecipe>> MergeMethodOptions::recipe() const {
  if (method_.empty()) {
    const auto* said = said_without_method();
    if (said == nullptr) return std::optional<MergeRecipe>();
    return Error(ErrorCode::kUsage, fmt::format("{} goes with --method", said));
  }
  MergeRecipe recipe;
  CKPT_ASSIGN_OR_RETURN(recipe.method, parse_merge_method(method_));
  if (seed_ && !draws_masks(recipe.method)) return no_seed_needed(merge_method_info(recipe.method));
  CKPT_RETURN_IF_ERROR(add_values(recipe));
  recipe.seed = seed_ ? *parse_seed(*seed_) : 0;
  recipe.accumulate = accumulate_by_name(accumulate_).value_or(recipe.accumulate);
  recipe.integers = integer_rule_by_name(integers_);
  recipe.around_base = around_base_;
  recipe.allow_unrelated = allow_unrelated_;
  return std::optional<MergeRecipe>(std::move(recipe));
}

}  // namespace ckpt::cli
