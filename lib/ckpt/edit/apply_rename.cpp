// SPDX-License-Identifier: BSD-3-Clause
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

Status strip_prefix(const std::string& prefix, EditContext& context) {
  bool found = false;
  for_keys(context, [&](EditedKey& key) {
    if (!key.name.starts_with(prefix)) return;
    found = true;
    key.name.erase(0, prefix.size());
  });
  if (found || context.allow_unmatched) return {};
  return Error(ErrorCode::kNotFound, fmt::format("no key starts with {}", quoted(prefix)))
      .with_hint("use --allow-unmatched to accept that");
}

Status apply_rule(const RenameRule& rule, EditContext& context) {
  switch (rule.kind) {
    case RenameRule::Kind::kStripPrefix: return strip_prefix(rule.text, context);
    case RenameRule::Kind::kAddPrefix:
      for_keys(context, [&](EditedKey& key) { key.name.insert(0, rule.text); });
      return {};
    case RenameRule::Kind::kMap: break;
  }
  CKPT_RETURN_IF_ERROR(require_match(*rule.pattern, context));
  for_keys(context, [&](EditedKey& key) { key.name = rule.pattern->replace(key.name, rule.text); });
  return {};
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
  for (const auto& rule : edit.rules) CKPT_RETURN_IF_ERROR(apply_rule(rule, context));
  Status status;
  for_keys(context, [&](const EditedKey& key) {
    if (!status.ok() || key.name == key.original || is_loadable(key.name)) return;
    status = Error(ErrorCode::kUsage, fmt::format("the new name {} of key {} is not UTF-8", quoted(key.name),
                                                  quoted(key.original)));
  });
  return status;
}

}  // namespace ckpt
