// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "ckpt/edit/edits.h"

namespace ckpt {
namespace {

/// The last rule that matches a key decides.
class KeyRules {
 public:
  explicit KeyRules(const std::vector<KeyRule>& rules) : rules_(rules), is_used_(rules.size()) {
    for (const auto& rule : rules) index_.add(rule.pattern);
  }

  bool keeps(std::string_view key) {
    std::optional<std::size_t> last;
    index_.for_matches(key, [&](std::size_t rule) {
      is_used_[rule] = true;
      last = std::max(last.value_or(0), rule);
    });
    if (last) return rules_[*last].keep;
    return rules_.empty() || !rules_.front().keep;
  }

  /// The first rule that matched nothing, or null.
  const KeyRule* unused() const {
    const auto found = std::find(is_used_.begin(), is_used_.end(), false);
    return found == is_used_.end() ? nullptr : &rules_[static_cast<std::size_t>(found - is_used_.begin())];
  }

 private:
  const std::vector<KeyRule>& rules_;
  PatternIndex index_;
  std::vector<bool> is_used_;
};

/// Size and dtype rules look at tensors; an _extra_state that is none stays.
bool stays_by_content(const FilterKeys& edit, const Checkpoint& checkpoint, TensorId id) {
  if (id == kNoIndex) return true;
  const auto& tensor = checkpoint.tensors[id];
  const auto& only = edit.only_dtypes;
  if (!only.empty() && std::find(only.begin(), only.end(), tensor.dtype) == only.end()) return false;
  const auto bytes = checkpoint.bytes(tensor);
  return (!edit.min_bytes || bytes >= *edit.min_bytes) && (!edit.max_bytes || bytes <= *edit.max_bytes);
}

std::vector<std::int64_t> shape_of(const Checkpoint& checkpoint, TensorId id) {
  const auto shape = checkpoint.shape(checkpoint.tensors[id]);
  return {shape.begin(), shape.end()};
}

/// Drops what the reference doesn't have, or has with another shape, and says what it has beyond the file.
void keep_like(const FilterKeys& edit, EditedStateDict& dict, EditContext& context) {
  std::unordered_map<std::string_view, const ReferenceKey*> wanted;
  for (const auto& key : *edit.like) wanted.emplace(key.name, &key);
  auto& report = report_of(context.report, dict.root);
  std::unordered_set<std::string_view> present;
  for (auto& key : dict.keys) {
    if (key.dropped) continue;
    const auto found = wanted.find(key.name);
    if (found == wanted.end()) {
      key.dropped = true;
      report.unexpected.push_back(key.name);
      continue;
    }
    present.insert(found->first);
    const bool comparable = key.tensor != kNoIndex && found->second->is_tensor;
    if (edit.ignore_shape || !comparable) continue;
    auto shape = shape_of(context.checkpoint, key.tensor);
    if (shape == found->second->shape) continue;
    key.dropped = true;
    report.mismatched.push_back({key.name, std::move(shape), found->second->shape});
  }
  for (const auto& key : *edit.like) {
    if (!present.contains(key.name)) report.missing.push_back(key.name);
  }
  const bool fits = report.missing.empty() && report.mismatched.empty();
  context.report.strict_failed = context.report.strict_failed || (edit.strict && !fits);
}

}  // namespace

Status require_match(const NamePattern& pattern, const EditContext& context) {
  for (const auto& dict : context.dicts) {
    for (const auto& key : dict.keys) {
      if (!key.dropped && pattern.matches(key.name)) return {};
    }
  }
  if (context.allow_unmatched) return {};
  std::vector<std::string> names;
  for (const auto& dict : context.dicts) {
    for (const auto& key : dict.keys) {
      if (!key.dropped) names.push_back(key.name);
    }
  }
  const auto error = unmatched(pattern, std::move(names));
  const auto hint = error.hint().empty()
                        ? "use --allow-unmatched to accept a pattern without a match"
                        : error.hint() + " Use --allow-unmatched to accept a pattern without a match";
  return Error(error.code(), error.message()).with_hint(hint);
}

Status apply_filter(const FilterKeys& edit, EditContext& context) {
  KeyRules rules(edit.rules);
  std::vector<EditedKey*> dropped;
  for (auto& dict : context.dicts) {
    for (auto& key : dict.keys) {
      if (key.dropped) continue;
      if (!rules.keeps(key.name) || !stays_by_content(edit, context.checkpoint, key.tensor))
        dropped.push_back(&key);
    }
  }
  if (const auto* rule = rules.unused()) CKPT_RETURN_IF_ERROR(require_match(rule->pattern, context));
  for (auto* key : dropped) key->dropped = true;
  if (!edit.like) return {};
  for (auto& dict : context.dicts) keep_like(edit, dict, context);
  return {};
}

}  // namespace ckpt
