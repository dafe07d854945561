// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_recipe.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

using Parameter = MergeParameter;

/// Words, flags and whole numbers stay what they are between the points of a gradient.
bool has_steps(Parameter parameter) {
  return merge_parameter_info(parameter).kind != MergeParameterKind::kNumber;
}

Error unknown(std::string_view what, std::string_view name, const std::vector<std::string>& known) {
  Error error(ErrorCode::kUsage, fmt::format("unknown {} {}", what, quoted(name)));
  const auto near = nearest(name, known);
  return std::move(error).with_hint(near.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                                                 : fmt::format("did you mean {}?", quoted(near)));
}

/// Those that the method has, by mergekit's names.
std::vector<std::string> parameters_of(const MergeMethodInfo& method) {
  std::vector<std::string> names;
  for (const auto& setting : method.settings)
    names.emplace_back(merge_parameter_info(setting.parameter).name);
  return names;
}

Error no_parameter(const MergeMethodInfo& method, std::string_view name) {
  const auto known = parameters_of(method);
  const auto near = nearest(name, known);
  return Error(ErrorCode::kUsage, fmt::format("{} has no parameter {}", quoted(method.name), quoted(name)))
      .with_hint(known.empty()  ? std::string("it has none")
                 : near.empty() ? fmt::format("it has: {}", fmt::join(known, ", "))
                                : fmt::format("did you mean {}?", quoted(near)));
}

Status check_range(const MergeMethodInfo& method, const RecipeSetting& setting) {
  const auto& info = merge_parameter_info(setting.parameter);
  const bool divides = method.method == MergeMethod::kLora && setting.parameter == Parameter::kR;
  for (const auto& file : setting.value.files) {
    for (const auto value : file) {
      if (divides && value == 0)
        return Error(ErrorCode::kUsage,
                     fmt::format("{} is 0: {} divides by it", info.name, quoted(method.name)));
      const bool whole = info.kind == MergeParameterKind::kNumber || value == std::floor(value);
      if (value >= info.least && value <= info.most && whole) continue;
      if (info.kind == MergeParameterKind::kFlag)
        return Error(ErrorCode::kUsage, fmt::format("{} is {}: expected yes or no", info.name, value));
      return Error(ErrorCode::kUsage,
                   fmt::format("{} is {}: expected {} {}", info.name, value,
                               info.kind == MergeParameterKind::kCount ? "a whole number" : "a number",
                               info.most == std::numeric_limits<double>::max()
                                   ? fmt::format("from {}", info.least)
                                   : fmt::format("from {} to {}", info.least, info.most)));
    }
  }
  return {};
}

Status check_count(const MergeMethodInfo& method, const RecipeSetting& setting, std::size_t counting,
                   bool with_base) {
  const auto found = setting.value.files.size();
  const auto& info = merge_parameter_info(setting.parameter);
  if (!method.is_per_input(setting.parameter)) {
    if (found == 1) return {};
    return Error(ErrorCode::kUsage,
                 fmt::format("{} has {} values: it is one for all files", info.name, found));
  }
  if (found == counting || (found == 1 && setting.parameter != Parameter::kWeight)) return {};
  return Error(ErrorCode::kUsage,
               fmt::format("{} has {}: {} takes one for each of {}{}", info.name, counted(found, "value"),
                           quoted(method.name), counted(counting, "file"), with_base ? " around BASE" : ""));
}

Status check_files(const MergeMethodInfo& method, const MergeRecipe& recipe, std::size_t files) {
  if (recipe.around_base && method.base == MergeBase::kNone) {
    return Error(ErrorCode::kUsage, fmt::format("{} has no base: every file counts", quoted(method.name)));
  }
  const bool may_choose = method.base == MergeBase::kOptional;
  const auto least = recipe.least_files();
  const auto most = method.most - (may_choose && method.most > 0 && !recipe.around_base ? 1 : 0);
  if (files >= least && (most == 0 || files <= most)) return {};
  const auto expected = least == most   ? fmt::format("{} files", least)
                        : files < least ? fmt::format("at least {} files", least)
                                        : fmt::format("at most {} files", most);
  Error error(ErrorCode::kUsage, fmt::format("{} merges {}{}, found {}", quoted(method.name), expected,
                                             recipe.has_base() ? ", BASE among them" : "", files));
  if (!may_choose || recipe.around_base || files != most + 1) return error;
  return std::move(error).with_hint("with --around-base the first one is the origin of the others");
}

}  // namespace

MergeParameters MergeRecipe::parameters_for(std::string_view key, double depth, std::size_t files) const {
  const auto& info = merge_method_info(method);
  const auto counting = info.counting(files, has_base());
  auto parameters = preset_parameters(method, counting);
  for (const auto& setting : settings) {
    if (setting.keys && !setting.keys->matches(key)) continue;
    const auto at = [&](std::size_t file) {
      return setting.value.at(file, depth, has_steps(setting.parameter));
    };
    if (!info.is_per_input(setting.parameter)) {
      parameters[setting.parameter] = at(0);
      continue;
    }
    auto& values = *parameters.list(setting.parameter);
    values.resize(counting);
    for (std::size_t file = 0; file < counting; ++file) values[file] = at(file);
  }
  parameters.seed = seed;
  return parameters;
}

Result<MergeMethod> parse_merge_method(std::string_view name) {
  if (const auto method = merge_method_by_name(name)) return *method;
  std::vector<std::string> known;
  for (const auto& info : all_merge_methods()) known.emplace_back(info.name);
  return unknown("method", name, known);
}

Result<MergeParameter> parse_merge_parameter(std::string_view name) {
  if (const auto parameter = merge_parameter_by_name(name)) return *parameter;
  std::vector<std::string> known;
  for (const auto& info : all_merge_parameters()) known.emplace_back(info.name);
  return unknown("parameter", name, known);
}

Result<IntegerRule> parse_integer_rule(std::string_view name) {
  if (const auto rule = integer_rule_by_name(name)) return *rule;
  return Error(ErrorCode::kUsage, fmt::format("expected equal, first, max or sum, found {}", quoted(name)));
}

std::string_view integer_rule_name(IntegerRule rule) {
  switch (rule) {
    case IntegerRule::kEqual: return "equal";
    case IntegerRule::kFirst: return "first";
    case IntegerRule::kMax: return "max";
    case IntegerRule::kSum: return "sum";
  }
  return "";
}

bool draws_masks(MergeMethod method) {
  switch (method) {
    case MergeMethod::kDareLinear:
    case MergeMethod::kDareTies:
    case MergeMethod::kDella:
    case MergeMethod::kDellaLinear: return true;
    default: return false;
  }
}

Result<MergeValue> parse_parameter_value(MergeParameter parameter, std::string_view text) {
  const auto& info = merge_parameter_info(parameter);
  return info.kind == MergeParameterKind::kFlag ? parse_merge_flag(text)
                                                : parse_merge_value(text, info.choices);
}

Result<RecipeSetting> parse_setting(MergeParameter parameter, std::string_view text) {
  RecipeSetting setting;
  setting.parameter = parameter;
  const auto equals = text.rfind('=');
  if (equals != text.npos) {
    CKPT_ASSIGN_OR_RETURN(setting.keys, NamePattern::parse(text.substr(0, equals)));
  }
  const auto value = equals == text.npos ? text : text.substr(equals + 1);
  CKPT_ASSIGN_OR_RETURN(setting.value, parse_parameter_value(parameter, value));
  return setting;
}

Result<RecipeSetting> parse_named_setting(std::string_view text, MergeMethod method) {
  const auto equals = text.rfind('=');
  if (equals == text.npos)
    return Error(ErrorCode::kUsage, fmt::format("{}: expected NAME=VALUE", quoted(text)));
  const auto colon = text.substr(0, equals).rfind(':');
  const auto begin = colon == text.npos ? 0 : colon + 1;
  const auto name = text.substr(begin, equals - begin);
  const auto parameter = merge_parameter_by_name(name);
  if (!parameter) return no_parameter(merge_method_info(method), name);
  CKPT_ASSIGN_OR_RETURN(auto setting, parse_setting(*parameter, text.substr(equals + 1)));
  if (colon != text.npos) {
    CKPT_ASSIGN_OR_RETURN(setting.keys, NamePattern::parse(text.substr(0, colon)));
  }
  return setting;
}

std::string setting_value_text(const RecipeSetting& setting) {
  static constexpr std::array<std::string_view, 2> kFlags = {"no", "yes"};
  const auto& info = merge_parameter_info(setting.parameter);
  if (info.kind == MergeParameterKind::kFlag) return merge_value_text(setting.value, kFlags);
  return merge_value_text(setting.value, info.choices);
}

Status check_recipe(const MergeRecipe& recipe, std::size_t files) {
  const auto& method = merge_method_info(recipe.method);
  CKPT_RETURN_IF_ERROR(check_files(method, recipe, files));
  const auto counting = method.counting(files, recipe.has_base());
  for (const auto& setting : recipe.settings) {
    const auto& info = merge_parameter_info(setting.parameter);
    if (!method.has(setting.parameter)) return no_parameter(method, info.name);
    CKPT_RETURN_IF_ERROR(check_range(method, setting));
    CKPT_RETURN_IF_ERROR(check_count(method, setting, counting, recipe.has_base()));
  }
  for (const auto& needed : method.settings) {
    const auto says = [&](const RecipeSetting& setting) {
      return setting.parameter == needed.parameter && !setting.keys;
    };
    if (needed.preset || std::any_of(recipe.settings.begin(), recipe.settings.end(), says)) continue;
    return Error(ErrorCode::kUsage, fmt::format("{} needs {}", quoted(method.name),
                                                merge_parameter_info(needed.parameter).name));
  }
  return {};
}

}  // namespace ckpt
