// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"

namespace ckpt {
namespace {

/// Calls f(key) for every key that is left.
template <typename F>
void for_keys(EditContext& context, F f) {
  for (auto& dict : context.dicts) {
    for (auto& key : dict.keys) {
      if (!key.dropped) f(key);
    }
  }
}

/// Rules, each of which acts on the names that those before it left. A key is renamed by itself: of many
/// rules that are names, the next one that means it is looked up.
class Renaming {
 public:
  explicit Renaming(const std::vector<RenameRule>& rules) : rules_(rules), is_used_(rules.size()) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      if (rules[i].kind == RenameRule::Kind::kMap && rules[i].pattern->is_name()) {
        names_.add(*rules[i].pattern);
        rule_of_name_.push_back(i);
      } else {
        others_.push_back(i);
      }
    }
  }

  /// What the rules before number `end` make of a key.
  std::string rename(std::string key, std::size_t end) {
    auto other = others_.begin();
    for (std::size_t begin = 0; begin < end;) {
      auto next = end;
      names_.for_matches(key, [&](std::size_t name) {
        const auto rule = rule_of_name_[name];
        if (rule >= begin) next = std::min(next, rule);
      });
      while (other != others_.end() && *other < next && !acts_on(rules_[*other], key)) ++other;
      if (other != others_.end() && *other < next) next = *other++;
      if (next == end) break;
      is_used_[next] = true;
      act(rules_[next], key);
      begin = next + 1;
    }
    return key;
  }

  /// The number of the first rule that meant no key and should have; `rules.size()` where there is none.
  std::size_t first_unused() const {
    std::size_t i = 0;
    while (i < rules_.size() && (is_used_[i] || rules_[i].kind == RenameRule::Kind::kAddPrefix)) ++i;
    return i;
  }

 private:
  static bool acts_on(const RenameRule& rule, std::string_view key) {
    switch (rule.kind) {
      case RenameRule::Kind::kAddPrefix: return true;
      case RenameRule::Kind::kStripPrefix: return key.starts_with(rule.text);
      case RenameRule::Kind::kMap: break;
    }
    return rule.pattern->matches(key);
  }

  static void act(const RenameRule& rule, std::string& key) {
    switch (rule.kind) {
      case RenameRule::Kind::kAddPrefix: key.insert(0, rule.text); return;
      case RenameRule::Kind::kStripPrefix: key.erase(0, rule.text.size()); return;
      case RenameRule::Kind::kMap: break;
    }
    key = rule.pattern->replace(key, rule.text);
  }

  const std::vector<RenameRule>& rules_;
  PatternIndex names_;
  std::vector<std::size_t> rule_of_name_;
  std::vector<std::size_t> others_;  ///< rules that have to be tried
  std::vector<bool> is_used_;
};

/// Names are those that the rules before left.
Status refuse_unused(const RenameRule& rule, EditContext& context) {
  if (rule.kind == RenameRule::Kind::kMap) return require_match(*rule.pattern, context);
  return Error(ErrorCode::kNotFound, fmt::format("no key starts with {}", quoted(rule.text)))
      .with_hint("use --allow-unmatched to accept that");
}

/// Python's pickles spell strings as UTF-8 with surrogates let through; anything else would not load.
bool is_loadable(std::string_view name) {
  while (!name.empty()) {
    auto length = utf8_sequence(name);
    const bool surrogate =
        name.size() >= 3 && name[0] == '\xED' && (name[1] & '\xE0') == '\xA0' && (name[2] & '\xC0') == '\x80';
    if (length == 0 && surrogate) length = 3;
    if (length == 0) return false;
    name.remove_prefix(length);
  }
  return true;
}

}  // namespace

Status apply_rename(const RenameKeys& edit, EditContext& context) {
  Renaming renaming(edit.rules);
  std::vector<std::string> names;
  for_keys(context,
           [&](const EditedKey& key) { names.push_back(renaming.rename(key.name, edit.rules.size())); });
  if (const auto unused = renaming.first_unused(); unused < edit.rules.size() && !context.allow_unmatched) {
    for_keys(context, [&](EditedKey& key) { key.name = renaming.rename(key.name, unused); });
    return refuse_unused(edit.rules[unused], context);
  }
  auto name = names.begin();
  for_keys(context, [&](EditedKey& key) { key.name = std::move(*name++); });
  Status status;
  for_keys(context, [&](const EditedKey& key) {
    if (!status.ok() || key.name == key.original || is_loadable(key.name)) return;
    status = Error(ErrorCode::kUsage, fmt::format("the new name {} of key {} is not UTF-8", quoted(key.name),
                                                  quoted(key.original)));
  });
  return status;
}

}  // namespace ckpt
