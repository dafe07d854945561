// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/plan.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

std::string_view edit_name(const Edit& edit) {
  struct Name {
    std::string_view operator()(const StripWrappers&) const { return "strip-dataparallel"; }

    std::string_view operator()(const FilterKeys&) const { return "filter-keys"; }

    std::string_view operator()(const RenameKeys&) const { return "rename-keys"; }

    std::string_view operator()(const MergeTensors&) const { return "merge"; }

    std::string_view operator()(const ReplaceHead&) const { return "replace-head"; }

    std::string_view operator()(const DropEntries&) const { return "drop-entry"; }

    std::string_view operator()(const Convert&) const { return "convert"; }
  };

  return std::visit(Name{}, edit);
}

bool reads_values(const Plan& plan) {
  return std::any_of(plan.edits.begin(), plan.edits.end(), [](const Edit& edit) {
    if (const auto* convert = std::get_if<Convert>(&edit))
      return convert->compact || convert->dedupe || !convert->dtypes.empty();
    if (const auto* merge = std::get_if<MergeTensors>(&edit)) return merge->method.has_value();
    const auto* head = std::get_if<ReplaceHead>(&edit);
    return head != nullptr && (head->keep_rows || !head->rows.empty() || head->label_offset > 0 ||
                               head->background != ReplaceHead::Background::kNone);
  });
}

std::string_view optimizer_policy_name(OptimizerPolicy policy) {
  switch (policy) {
    case OptimizerPolicy::kRemap: return "remap";
    case OptimizerPolicy::kRemapModelOrder: return "remap=model-order";
    case OptimizerPolicy::kKeep: return "keep";
    case OptimizerPolicy::kDrop: return "drop";
  }
  return "";
}

Result<OptimizerPolicy> parse_optimizer_policy(std::string_view name) {
  for (const auto policy : {OptimizerPolicy::kKeep, OptimizerPolicy::kDrop, OptimizerPolicy::kRemap,
                            OptimizerPolicy::kRemapModelOrder}) {
    if (name == optimizer_policy_name(policy)) return policy;
  }
  return Error(ErrorCode::kUsage,
               fmt::format("expected keep, drop, remap or remap=model-order, found {}", quoted(name)));
}

Result<RenameRule> parse_rename_rule(std::string_view text) {
  const auto equals = text.rfind('=');
  const bool exact = text.starts_with('=');
  if (equals == text.npos || equals == 0 || (exact && equals < 1)) {
    return Error(ErrorCode::kUsage, fmt::format("{} is no OLD=NEW", quoted(text)));
  }
  CKPT_ASSIGN_OR_RETURN(auto pattern, NamePattern::parse(text.substr(0, equals)));
  if (pattern.negated())
    return Error(ErrorCode::kUsage, fmt::format("{}: a negated pattern can't be renamed", quoted(text)));
  const auto replacement = text.substr(equals + 1);
  CKPT_RETURN_IF_ERROR(pattern.check_replacement(replacement));
  return RenameRule{RenameRule::Kind::kMap, std::move(pattern), std::string(replacement)};
}

Result<std::string> parse_wrapper(std::string_view text) {
  while (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.find('.') != text.npos)
    return Error(ErrorCode::kUsage, "a wrapper is one name without dots");
  return std::string(text);
}

Result<DtypeRule> parse_dtype_rule(std::string_view text) {
  const auto equals = text.rfind('=');
  DtypeRule rule;
  if (equals != text.npos) {
    CKPT_ASSIGN_OR_RETURN(rule.pattern, NamePattern::parse(text.substr(0, equals)));
    text.remove_prefix(equals + 1);
  }
  CKPT_ASSIGN_OR_RETURN(rule.dtype, parse_dtype(text));
  return rule;
}

Result<Dtype> parse_dtype(std::string_view name) {
  if (const auto dtype = dtype_by_name(name)) return *dtype;
  Error error(ErrorCode::kUsage, fmt::format("unknown dtype {}", quoted(name)));
  std::vector<std::string> known;
  for (const auto& info : all_dtypes()) known.emplace_back(info.name);
  const auto meant = dtype_meant_by(name);
  const auto near = meant ? std::string(dtype_info(*meant).name) : nearest(name, known);
  if (near.empty()) return error;
  return std::move(error).with_hint(fmt::format("did you mean {}?", quoted(near)));
}

}  // namespace ckpt
