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
  };

  return std::visit(Name{}, edit);
}

bool reads_values(const Plan& plan) {
  return std::any_of(plan.edits.begin(), plan.edits.end(),
                     [](const Edit& edit) { return std::holds_alternative<ReplaceHead>(edit); });
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
  return RenameRule{RenameRule::Kind::kMap, std::move(pattern), std::string(text.substr(equals + 1))};
}

}  // namespace ckpt
