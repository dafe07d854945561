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
  bool still_used = false;          ///< a key still stands below it
  bool has_others = false;          ///< keys of which something behind the module's path changed, too
  std::optional<std::string> path;  ///< new path, as keys say that keep what follows it
  std::optional<std::string> own;   ///< the same of keys that are the module's own, if all agree
  bool own_differ = false;
  std::vector<std::string> allowed;  ///< where there is none: paths below which all others can stand
};

using Segments = std::vector<std::string_view>;

constexpr std::size_t kMostSegments = 64;  // of a key that is looked at closely

Segments segments_of(std::string_view key) {
  Segments segments;
  for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.')) {
    segments.push_back(key.substr(0, dot));
    key.remove_prefix(dot + 1);
  }
  segments.push_back(key);
  return segments;
}

std::size_t depth_of(std::string_view module) {
  return module.empty() ? 0 : segments_of(module).size();
}

/// What a key of which something behind a module's path changed says about the module. Asked of one key after
/// the other, for all modules around it.
class PossiblePaths {
 public:
  /// Paths that the first `depth` segments of the old key can have become in the new one: the segments that
  /// stay are on the same side of them. None where the key says nothing.
  std::vector<std::string> find(std::size_t depth, const KeyMove& move) {
    if (move_ != &move) look_at(move);
    std::vector<std::string> paths;
    std::string path;
    for (std::size_t i = 0; says_something_ && i <= after_.size(); ++i) {
      if (i > 0) path.append(path.empty() ? "" : ".").append(after_[i - 1]);
      if (outside_[depth][i] + inside_[depth][i] == inside_[0][0]) paths.push_back(path);
    }
    return paths;
  }

 private:
  using Table = std::vector<std::vector<std::size_t>>;

  void look_at(const KeyMove& move) {
    move_ = &move;
    before_ = segments_of(move.before);
    after_ = segments_of(move.after);
    says_something_ = before_.size() <= kMostSegments && after_.size() <= kMostSegments;
    if (!says_something_) return;
    const bool same_leaf = before_.back() == after_.back();
    before_.pop_back();
    after_.pop_back();
    measure();
    says_something_ = same_leaf || inside_[0][0] == after_.size();
  }

  /// Longest common subsequences of all that stands before, and behind, two places.
  void measure() {
    outside_.assign(before_.size() + 1, std::vector<std::size_t>(after_.size() + 1));
    inside_ = outside_;
    for (std::size_t i = 0; i < before_.size(); ++i) {
      for (std::size_t j = 0; j < after_.size(); ++j) {
        outside_[i + 1][j + 1] =
            before_[i] == after_[j] ? outside_[i][j] + 1 : std::max(outside_[i][j + 1], outside_[i + 1][j]);
      }
    }
    for (auto i = before_.size(); i-- > 0;) {
      for (auto j = after_.size(); j-- > 0;) {
        inside_[i][j] = before_[i] == after_[j] ? inside_[i + 1][j + 1] + 1
                                                : std::max(inside_[i][j + 1], inside_[i + 1][j]);
      }
    }
  }

  const KeyMove* move_ = nullptr;
  Segments before_;  ///< without the last
  Segments after_;
  bool says_something_ = false;
  Table outside_;  ///< by segments before the place in the old key, in the new one
  Table inside_;
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
  if (const auto path = new_path(module, move); !path) {
    evidence.has_others = true;
  } else if (!evidence.path) {
    evidence.path = *path;
  } else if (*evidence.path != *path) {
    evidence.contradicts = true;
  }
  if (const auto path = new_path(module, move); path && module_of(move.before) == module) {
    evidence.own_differ = evidence.own_differ || (evidence.own && *evidence.own != *path);
    evidence.own = *path;
  }
  evidence.has_remaining = true;
  const std::string_view after = move.after;
  const bool below = after.starts_with(module) && after.size() > module.size() && after[module.size()] == '.';
  evidence.still_used = evidence.still_used || module.empty() || below;
}

/// Of a key that `weigh` found to be one of the others.
void weigh_other(Evidence& evidence, std::string_view module, const KeyMove& move, PossiblePaths& possible) {
  if (move.dropped || evidence.contradicts || new_path(module, move)) return;
  auto paths = possible.find(depth_of(module), move);
  if (evidence.path) {
    evidence.contradicts = std::find(paths.begin(), paths.end(), *evidence.path) == paths.end();
    return;
  }
  if (evidence.allowed.empty()) {
    evidence.allowed = std::move(paths);
  } else {
    std::erase_if(evidence.allowed, [&](const auto& path) {
      return std::find(paths.begin(), paths.end(), path) == paths.end();
    });
  }
  evidence.contradicts = evidence.allowed.empty();
}

ModuleMove decide(const Evidence& evidence, std::string_view module) {
  if (evidence.own && !evidence.own_differ) {
    if (*evidence.own == module) return {};
    return {ModuleMove::Kind::kMoves, *evidence.own};
  }
  const bool one_is_left = !evidence.contradicts && (evidence.path || evidence.allowed.size() == 1);
  if (!one_is_left) return {evidence.still_used ? ModuleMove::Kind::kStays : ModuleMove::Kind::kGoes, {}};
  const auto& path = evidence.path ? *evidence.path : evidence.allowed.front();
  if (path == module) return {};
  return {ModuleMove::Kind::kMoves, path};
}

/// The parent path; nothing for the root.
std::optional<std::string_view> parent_of(std::string_view module) {
  if (module.empty()) return std::nullopt;
  const auto dot = module.rfind('.');
  return dot == module.npos ? std::string_view() : module.substr(0, dot);
}

/// Calls f(evidence, module, key) for each module around each key.
template <typename F>
void for_modules(std::unordered_map<std::string_view, Evidence>& evidence, const std::vector<KeyMove>& keys,
                 F f) {
  for (const auto& key : keys) {
    std::string_view module = key.before;
    while (const auto parent = parent_of(module)) {
      module = *parent;
      const auto found = evidence.find(module);
      if (found != evidence.end()) f(found->second, module, key);
    }
  }
}

/// One entry for each name.
void settle_names(const std::vector<std::string>& modules, std::vector<ModuleMove>& moves) {
  std::unordered_map<std::string_view, std::size_t> holders;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    moves[i].value = i;
    if (moves[i].kind == ModuleMove::Kind::kStays) holders.emplace(modules[i], i);
  }
  const std::vector<ModuleMove> wanted = moves;  // owns the names
  for (std::size_t i = 0; i < modules.size(); ++i) {
    if (wanted[i].kind != ModuleMove::Kind::kMoves) continue;
    const auto [place, is_free] = holders.emplace(wanted[i].name, i);
    if (is_free) continue;
    moves[i].kind = ModuleMove::Kind::kGoes;
    auto& value = moves[place->second].value;
    const bool is_of_stayer = wanted[value].kind == ModuleMove::Kind::kStays;
    if (is_of_stayer || depth_of(modules[i]) > depth_of(modules[value])) value = i;
  }
}

}  // namespace

std::vector<ModuleMove> move_modules(const std::vector<std::string>& modules,
                                     const std::vector<KeyMove>& keys) {
  std::unordered_map<std::string_view, Evidence> evidence;
  for (const auto& module : modules) evidence.try_emplace(module);
  for_modules(evidence, keys, weigh);
  const bool has_others = std::any_of(evidence.begin(), evidence.end(),
                                      [](const auto& module) { return module.second.has_others; });
  PossiblePaths possible;
  if (has_others) {
    for_modules(evidence, keys, [&](Evidence& one, std::string_view module, const KeyMove& key) {
      weigh_other(one, module, key, possible);
    });
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
  settle_names(modules, moves);
  return moves;
}

}  // namespace ckpt
