// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/module_names.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace ckpt {
namespace {

/// What the keys below one module say about its new path.
struct Evidence {
  bool has_remaining = false;
  bool contradicts = false;
  bool still_used = false;  ///< a key still stands below it
  std::string path;         ///< new path, if all remaining keys agree
};

/// The new path of `module` if `move` keeps what follows it: before "a.b.w" after "x.b.w", module "a" → "x".
std::optional<std::string_view> new_path(std::string_view module, const KeyMove& move) {
  const std::string_view before = move.before;
  const std::string_view after = move.after;
  const auto rest = module.empty() ? before : before.substr(module.size() + 1);
  if (!after.ends_with(rest)) return std::nullopt;
  auto path = after.substr(0, after.size() - rest.size());
  if (path.empty()) return path;
  if (!path.ends_with('.')) return std::nullopt;
  path.remove_suffix(1);
  return path;
}

void weigh(Evidence& evidence, std::string_view module, const KeyMove& move) {
  if (move.dropped) return;
  const auto path = new_path(module, move);
  if (!path || (evidence.has_remaining && evidence.path != *path)) {
    evidence.contradicts = true;
  } else {
    evidence.path = *path;
  }
  evidence.has_remaining = true;
  const std::string_view after = move.after;
  const bool below = after.starts_with(module) && after.size() > module.size() && after[module.size()] == '.';
  evidence.still_used = evidence.still_used || module.empty() || below;
}

ModuleMove decide(const Evidence& evidence, std::string_view module) {
  if (evidence.contradicts && !evidence.still_used) return {ModuleMove::Kind::kGoes, {}};
  if (evidence.contradicts || evidence.path == module) return {};
  return {ModuleMove::Kind::kMoves, evidence.path};
}

/// The parent path; nothing for the root.
std::optional<std::string_view> parent_of(std::string_view module) {
  if (module.empty()) return std::nullopt;
  const auto dot = module.rfind('.');
  return dot == module.npos ? std::string_view() : module.substr(0, dot);
}

}  // namespace

std::vector<ModuleMove> move_modules(const std::vector<std::string>& modules,
                                     const std::vector<KeyMove>& keys) {
  std::unordered_map<std::string_view, Evidence> evidence;
  for (const auto& module : modules) evidence.try_emplace(module);
  for (const auto& key : keys) {
    std::string_view module = key.before;
    while (const auto parent = parent_of(module)) {
      module = *parent;
      const auto found = evidence.find(module);
      if (found != evidence.end()) weigh(found->second, module, key);
    }
  }
  std::vector<ModuleMove> moves;
  moves.reserve(modules.size());
  for (const std::string_view module : modules) {
    const auto& own = evidence.find(module)->second;
    if (own.has_remaining) {
      moves.push_back(decide(own, module));
      continue;
    }
    ModuleMove move;
    std::string_view around = module;
    while (const auto parent = parent_of(around)) {
      around = *parent;
      const auto found = evidence.find(around);
      if (found == evidence.end() || !found->second.has_remaining) continue;
      const auto outer = decide(found->second, around);
      if (outer.kind == ModuleMove::Kind::kMoves) {
        const auto rest = around.empty() ? module : module.substr(around.size() + 1);
        move = {ModuleMove::Kind::kMoves,
                outer.name.empty() ? std::string(rest) : outer.name + '.' + std::string(rest)};
      } else if (outer.kind == ModuleMove::Kind::kGoes) {
        move = outer;
      }
      break;
    }
    moves.push_back(std::move(move));
  }
  return moves;
}

}  // namespace ckpt
