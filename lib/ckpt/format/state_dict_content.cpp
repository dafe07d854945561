// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/state_dict_content.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

/// What a document holds besides one of its state dicts.
class Surroundings {
 public:
  Surroundings(const Checkpoint& checkpoint, StateDictContent& content)
      : checkpoint_(checkpoint), content_(content) {
    collect_drops();
    describe_places();
  }

  void run() {
    for (const auto& row : checkpoint_.tensors) {
      if (!row.has(kIsPart) && row.state_dict != content_.dict && row.place != kNoIndex)
        visit(row.place, row.use);
    }
    for (const auto& entry : checkpoint_.entries) visit(entry.place, entry.use);
  }

 private:
  /// A place, seen from the state dict.
  struct Seen {
    PlaceId top = kNoIndex;  ///< the outermost place above it, or itself, that does not hold the state dict
    bool gone = false;       ///< an edit dropped it, or something above it
  };

  PlaceId root() const {
    return content_.dict == kNoIndex ? 0 : checkpoint_.state_dicts[content_.dict].place;
  }

  void collect_drops() {
    for (const auto& [key, value] : checkpoint_.dropped_values()) {
      if (key != kNoUse) {
        dropped_keys_.insert(key);
      } else {
        dropped_items_.emplace_back(checkpoint_.graph().start(value), value);
      }
    }
    std::sort(dropped_items_.begin(), dropped_items_.end());
    for (const auto& [key, change] : checkpoint_.changes()) {
      if (change.dropped) dropped_keys_.insert(checkpoint_.state_dicts[key.first].entries[key.second].key);
    }
  }

  /// A place stands behind the one that it lies in.
  void describe_places() {
    std::unordered_set<PlaceId> chain;  // the state dict's place and all around it
    for (auto place = root(); place != kNoIndex; place = checkpoint_.places[place].parent)
      chain.insert(place);
    seen_.resize(checkpoint_.places.size());
    for (PlaceId place = 0; place < seen_.size(); ++place) {
      const auto& step = checkpoint_.places[place];
      if (step.parent == kNoIndex) continue;
      const auto& above = seen_[step.parent];
      seen_[place].top = chain.contains(step.parent) ? place : above.top;
      seen_[place].gone = above.gone || (step.kind == StepKind::kItem && dropped_keys_.contains(step.step));
    }
  }

  /// Does it stand in an item of a list that an edit dropped?
  bool in_dropped_item(Use use) const {
    const auto behind =
        std::upper_bound(dropped_items_.begin(), dropped_items_.end(), std::pair(use, kNoUse));
    return behind != dropped_items_.begin() && use <= std::prev(behind)->second;
  }

  void visit(PlaceId place, Use use) {
    const auto top = seen_[place].top;
    if (place == root() || top == kNoIndex || seen_[place].gone || in_dropped_item(use)) return;
    const auto& step = checkpoint_.places[top];
    const bool within = step.parent == root() && content_.dict != kNoIndex;
    if (!within && checkpoint_.has_new_root()) return;  // it goes
    if (within && step.kind != StepKind::kItem) {
      content_.has_metadata = content_.has_metadata || is_metadata(step);
      return;  // an attribute of the mapping, or what made it
    }
    if (within && is_own_tensor(top)) {
      content_.has_attributes = true;
      return;
    }
    if (listed_.insert(top).second)
      (within ? content_.extras : content_.around).push_back(checkpoint_.path(top));
  }

  /// Does a tensor of the state dict stand there? Then what was met is something that it carries.
  bool is_own_tensor(PlaceId place) {
    if (own_.empty()) {
      for (const auto& row : checkpoint_.tensors) {
        if (row.state_dict == content_.dict && row.place != kNoIndex) own_.insert(row.place);
      }
    }
    return own_.contains(place);
  }

  bool is_metadata(const Place& step) const {
    return step.kind == StepKind::kAttribute && checkpoint_.graph().string(step.step) == "_metadata";
  }

  const Checkpoint& checkpoint_;
  StateDictContent& content_;
  std::unordered_set<Use> dropped_keys_;
  std::vector<std::pair<Use, Use>> dropped_items_;  ///< ranges of nodes, ascending
  std::vector<Seen> seen_;                          ///< by place
  std::unordered_set<PlaceId> listed_;
  std::unordered_set<PlaceId> own_;  ///< places of its tensors, once they are asked for
};

Error no_state_dict(const Checkpoint& checkpoint) {
  const bool has_tensors = std::any_of(checkpoint.mappings.begin(), checkpoint.mappings.end(),
                                       [](const Mapping& mapping) { return mapping.tensors > 0; });
  Error error(ErrorCode::kUnsupported, "there is no state dict in the file");
  if (!has_tensors) return error;
  return std::move(error).with_hint("name a mapping that holds tensors: --state-dict --root PATH");
}

Error several(const Checkpoint& checkpoint, const std::vector<std::uint32_t>& dicts) {
  std::vector<std::string> paths;
  for (const auto dict : dicts)
    paths.push_back(quoted_path(checkpoint.path(checkpoint.state_dicts[dict].place)));
  return Error(ErrorCode::kUnsupported,
               fmt::format("there are {} state dicts in the file: {}", dicts.size(), fmt::join(paths, ", ")))
      .with_hint("name the one to keep: --state-dict --root PATH");
}

}  // namespace

Result<StateDictContent> state_dict_content(const Checkpoint& checkpoint) {
  StateDictContent content;
  content.dict = checkpoint.new_root();
  std::vector<std::uint32_t> dicts;
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const bool at_root = checkpoint.places[checkpoint.state_dicts[i].place].kind == StepKind::kRoot;
    if (at_root && !checkpoint.has_new_root()) content.dict = i;
    dicts.push_back(i);
  }
  if (content.dict == kNoIndex && dicts.size() == 1) content.dict = dicts.front();
  if (content.dict == kNoIndex && dicts.size() > 1) return several(checkpoint, dicts);
  if (content.dict == kNoIndex) {
    const bool empty_root = !checkpoint.mappings.empty() && checkpoint.mappings.front().place == 0 &&
                            checkpoint.mappings.front().tensors == 0 &&
                            checkpoint.mappings.front().others == 0;
    if (!empty_root) return no_state_dict(checkpoint);
  } else {
    const auto& dict = checkpoint.state_dicts[content.dict];
    if (dict.of_module && !checkpoint.has_new_root() && holds_any_object(checkpoint.format)) {
      return Error(ErrorCode::kUnsupported, "a whole module stands in the file, not its state dict")
          .with_hint("--state-dict makes the state dict of it");
    }
    for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
      if (checkpoint.is_dropped(content.dict, i)) continue;
      if (dict.entries[i].tensor != kNoIndex) {
        content.rows.push_back({checkpoint.name(content.dict, i), dict.entries[i].tensor});
      } else if (dict.of_module) {
        content.extras.push_back(checkpoint.name(content.dict, i));
      }
    }
    content.of_module = dict.of_module;
    content.has_metadata = dict.of_module && holds_any_object(checkpoint.format);
  }
  if (checkpoint.has_document() && !content.of_module) Surroundings(checkpoint, content).run();
  return content;
}

}  // namespace ckpt
