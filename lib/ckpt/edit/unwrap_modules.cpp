// SPDX-License-Identifier: BSD-3-Clause
// Taking whole modules out of their wrappers: where all that a module holds is one child under a wrapper's
// name, the child takes its place, and keys follow.
#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/model/module_state.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {
namespace {

class Unwrapping {
 public:
  Unwrapping(const StripWrappers& edit, EditContext& context, EditedStateDict& dict)
      : edit_(edit), context_(context), checkpoint_(context.checkpoint), dict_(dict) {
    const auto& modules = checkpoint_.modules;
    children_.resize(modules.size());
    own_keys_.resize(modules.size());
    successor_.assign(modules.size(), kNoIndex);
    for (std::uint32_t i = 0; i < modules.size(); ++i) {
      if (modules[i].state_dict != dict.index) continue;
      rows_.push_back(i);
      at_.emplace(modules[i].place, i);
      if (modules[i].parent != kNoIndex) children_[modules[i].parent].push_back(i);
    }
    for (const auto& [module, child] : checkpoint_.unwrapped()) successor_[module] = child;
    for (const auto& key : dict.keys) {
      const auto owner = owner_of(key);
      owners_.push_back(owner);
      if (owner != kNoIndex) own_keys_[owner].push_back(&key);
    }
  }

  void run() {
    std::vector<std::string> prefixes(checkpoint_.modules.size());
    for (const auto row : rows_) {
      prefixes[row] = prefix_of(row, prefixes);
      if (successor_[row] != kNoIndex || !is_wrapper(row, prefixes[row])) continue;
      const auto child = children_[row].front();
      successor_[row] = child;
      checkpoint_.unwrap(row, child);
      note_removed(prefixes[row] + std::string(checkpoint_.modules[child].name) + '.');
    }
    for (std::size_t i = 0; i < dict_.keys.size(); ++i) {
      auto& key = dict_.keys[i];
      if (owners_[i] == kNoIndex) continue;
      const auto leaf = key.original.substr(checkpoint_.modules[owners_[i]].prefix.size());
      key.name = prefixes[owners_[i]] + std::string(leaf);
    }
  }

 private:
  /// The module in whose tables the key's value stands.
  std::uint32_t owner_of(const EditedKey& key) const {
    if (key.tensor != kNoIndex) {
      auto place = checkpoint_.original(key.tensor).place;
      for (; place != kNoIndex; place = checkpoint_.places[place].parent) {
        if (const auto found = at_.find(place); found != at_.end()) return found->second;
      }
    }
    const auto prefix = key.original.substr(0, key.original.rfind('.') + 1);
    for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
      if (checkpoint_.modules[*row].prefix == prefix) return *row;
    }
    return kNoIndex;
  }

  /// In front of the module's own keys, once all above it that are to go are gone.
  std::string prefix_of(std::uint32_t row, const std::vector<std::string>& prefixes) const {
    const auto& module = checkpoint_.modules[row];
    if (module.parent == kNoIndex) return "";
    const bool has_no_name = module.prefix == checkpoint_.modules[module.parent].prefix;
    if (has_no_name || successor_[module.parent] == row) return prefixes[module.parent];
    return prefixes[module.parent] + std::string(module.name) + '.';
  }

  bool is_wrapper(std::uint32_t row, const std::string& prefix) {
    if (children_[row].size() != 1) return false;
    const auto name = checkpoint_.modules[children_[row].front()].name;
    const auto known = known_wrappers();
    if (std::find(known.begin(), known.end(), name) == known.end() &&
        std::find(edit_.wrappers.begin(), edit_.wrappers.end(), name) == edit_.wrappers.end())
      return false;
    const auto& graph = checkpoint_.graph();
    dissect(graph, graph.resolve(checkpoint_.modules[row].use), anatomy_);
    const auto module = read_module(graph, anatomy_);
    if (!module) return false;
    const auto what = fmt::format("{}{}", module->type,
                                  prefix.empty() ? "" : " at " + quoted(prefix.substr(0, prefix.size() - 1)));
    if (const auto& own = own_keys_[row]; !own.empty()) {
      const bool averages = std::all_of(
          own.begin(), own.end(), [](const EditedKey* key) { return key->original.ends_with("n_averaged"); });
      if (averages) {
        context_.report.notes.push_back(
            fmt::format("the {} has a key of its own, 'n_averaged', so it is not unwrapped", what));
      }
      return false;
    }
    if (!module->is_torchs())
      context_.report.notes.push_back(
          fmt::format("the {} is taken for a wrapper: all it holds is {}", what, quoted(name)));
    return true;
  }

  void note_removed(std::string text) {
    auto& removed = context_.report.removed_wrappers;
    if (std::find(removed.begin(), removed.end(), text) == removed.end()) removed.push_back(std::move(text));
  }

  const StripWrappers& edit_;
  EditContext& context_;
  Checkpoint& checkpoint_;
  EditedStateDict& dict_;
  Anatomy anatomy_;
  std::vector<std::uint32_t> rows_;  ///< modules of the state dict, parents first
  std::unordered_map<PlaceId, std::uint32_t> at_;
  std::vector<std::vector<std::uint32_t>> children_;     ///< by module
  std::vector<std::vector<const EditedKey*>> own_keys_;  ///< by module
  std::vector<std::uint32_t> successor_;                 ///< by module: the child that takes its place
  std::vector<std::uint32_t> owners_;                    ///< by key
};

}  // namespace

void unwrap_modules(const StripWrappers& edit, EditContext& context, EditedStateDict& dict) {
  Unwrapping(edit, context, dict).run();
}

}  // namespace ckpt
