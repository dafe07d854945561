// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/optimizer_state.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/parameter_roles.h"

namespace ckpt {
namespace {

using ParameterId = std::variant<std::int64_t, std::string>;  ///< a number, or in some libraries a name

/// What PyTorch's optimizers count with, also for a parameter without dimensions.
constexpr std::array<std::string_view, 4> kCounters = {"step", "eta", "mu", "mu_product"};

Error odd(std::string reason) {
  return Error(ErrorCode::kRefused, std::move(reason));
}

/// The child of `ancestor` that `place` is or lies below; kNoIndex if it lies elsewhere.
PlaceId child_towards(const Checkpoint& checkpoint, PlaceId ancestor, PlaceId place) {
  while (place != kNoIndex && place > ancestor) {  // parents come before what they hold
    const auto parent = checkpoint.places[place].parent;
    if (parent == ancestor) return place;
    place = parent;
  }
  return kNoIndex;
}

bool is_model(const Checkpoint& checkpoint, std::uint32_t state_dict) {
  TensorInfo any;
  any.state_dict = state_dict;
  return section_of(checkpoint, any) == Section::kModel;
}

struct Surroundings {
  PlaceId around =
      kNoIndex;  ///< the innermost container around the optimizer that holds a model's state dict
  PlaceId within = kNoIndex;  ///< what holds the optimizer there, or the optimizer itself
  std::vector<std::uint32_t> state_dicts;
};

Surroundings surroundings_of(const Checkpoint& checkpoint, PlaceId place) {
  Surroundings found;
  found.within = place;
  for (found.around = checkpoint.places[place].parent; found.around != kNoIndex;
       found.around = checkpoint.places[found.around].parent) {
    for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
      const auto dict = checkpoint.state_dicts[i].place;
      const bool inside = dict == found.around || child_towards(checkpoint, found.around, dict) != kNoIndex;
      if (inside && is_model(checkpoint, i)) found.state_dicts.push_back(i);
    }
    if (!found.state_dicts.empty()) return found;
    found.within = found.around;
  }
  return {kNoIndex, place, {}};
}

class StateReader {
 public:
  StateReader(const Checkpoint& checkpoint, const Mapping& mapping)
      : checkpoint_(checkpoint), graph_(checkpoint.graph()), mapping_(mapping) {}

  Result<OptimizerState> run() {
    state_.place = mapping_.place;
    Anatomy optimizer;
    dissect(graph_, mapping_.use, optimizer);
    const auto* groups = item_of(optimizer, "param_groups");
    const auto* states = item_of(optimizer, "state");
    CKPT_RETURN_IF_ERROR(read_groups(groups->value));
    CKPT_RETURN_IF_ERROR(read_states(states->value));
    CKPT_RETURN_IF_ERROR(read_tensors(groups->key, states->key));
    CKPT_RETURN_IF_ERROR(check_neighbours());
    return std::move(state_);
  }

 private:
  const MappingItem* item_of(const Anatomy& mapping, std::string_view key) const {
    const auto found = std::find_if(mapping.items.begin(), mapping.items.end(),
                                    [&](const auto& item) { return graph_.string_view(item.key) == key; });
    return found == mapping.items.end() ? nullptr : &*found;
  }

  /// Elements of the list used at `use`, or nothing where there is none.
  std::optional<std::vector<Use>> list_at(Use use) const {
    Anatomy list;
    dissect(graph_, graph_.resolve(use), list);
    if (list.kind != ValueKind::kList) return std::nullopt;
    return std::move(list.elements);
  }

  Status read_groups(Use use) {
    const auto groups = list_at(use);
    if (!groups) return odd("'param_groups' is no list");
    state_.has_names = !groups->empty();
    for (const auto group : *groups) {
      CKPT_RETURN_IF_ERROR(read_group(group));
      ++state_.groups;
    }
    return {};
  }

  Status read_group(Use use) {
    Anatomy group;
    dissect(graph_, graph_.resolve(use), group);
    const auto* params = item_of(group, "params");
    const auto indices = params == nullptr ? std::nullopt : list_at(params->value);
    if (!indices) return odd(fmt::format("group {} has no list 'params'", state_.groups));
    const auto* named = item_of(group, "param_names");
    auto names = named == nullptr ? std::nullopt : list_at(named->value);
    if (named != nullptr && (!names || names->size() != indices->size())) {
      return odd(fmt::format("'param_names' of group {} does not name {}", state_.groups,
                             counted(indices->size(), "parameter")));
    }
    if (!indices->empty() && graph_.is_string(indices->front())) names = indices;
    state_.has_names = state_.has_names && names;
    for (std::size_t i = 0; i < indices->size(); ++i)
      CKPT_RETURN_IF_ERROR(add_slot((*indices)[i], names ? (*names)[i] : kNoUse));
    return {};
  }

  Status add_slot(Use use, Use name) {
    const auto at = static_cast<std::uint32_t>(state_.slots.size());
    OptimizerSlot slot;
    slot.use = use;
    slot.name = name;
    slot.group = state_.groups;
    const auto id = id_of(use);
    if (!id || slot.is_keyed_by_name() != std::holds_alternative<std::string>(*id)) {
      return odd(fmt::format("'params' of group {} counts with {}", state_.groups,
                             printable(python_repr(graph_, use))));
    }
    if (!slot_of_id_.emplace(*id, at).second)
      return odd(fmt::format("{} is in its groups twice", printable(python_repr(graph_, use))));
    const auto* index = std::get_if<std::int64_t>(&*id);
    slot.index = index != nullptr ? *index : at;
    state_.counts_up = state_.counts_up && index != nullptr && *index == static_cast<std::int64_t>(at);
    state_.slots.push_back(std::move(slot));
    return {};
  }

  /// What stands in `params` and as a key of `state`.
  std::optional<ParameterId> id_of(Use use) const {
    if (const auto index = graph_.integer(use)) return *index;
    if (auto name = graph_.string(use)) return std::move(*name);
    return std::nullopt;
  }

  Status read_states(Use use) {
    Anatomy states;
    dissect(graph_, graph_.resolve(use), states);
    if (!states.is_mapping()) return odd("'state' is no mapping");
    for (const auto& item : states.items) {
      const auto id = id_of(item.key);
      const auto found = id ? slot_of_id_.find(*id) : slot_of_id_.end();
      if (found == slot_of_id_.end()) {
        return odd(fmt::format("its state has the key {}, which is in no group",
                               printable(python_repr(graph_, item.key))));
      }
      auto& slot = state_.slots[found->second];
      slot.state_key = item.key;
      slot.state_value = item.value;
      slot.state_pair = item.pair;
      slot_of_key_.emplace(item.key, found->second);
      CKPT_RETURN_IF_ERROR(check_state(slot));
    }
    return {};
  }

  /// A parameter keeps tensors and plain values. LBFGS, which keeps lists, keeps them for all at index 0.
  Status check_state(const OptimizerSlot& slot) const {
    Anatomy state;
    dissect(graph_, graph_.resolve(slot.state_value), state);
    if (!state.is_mapping()) return odd(fmt::format("the state of index {} is no mapping", slot.index));
    Anatomy value;
    for (const auto& item : state.items) {
      dissect(graph_, graph_.resolve(item.value), value);
      const bool container = value.is_mapping() || value.kind == ValueKind::kList ||
                             value.kind == ValueKind::kTuple || value.kind == ValueKind::kSet;
      if (!container) continue;
      return odd(fmt::format("the state of index {} holds a {}: {}", slot.index, value_kind_name(value.kind),
                             printable(python_repr(graph_, item.key))));
    }
    return {};
  }

  /// Tensors at or below a place: they are in the order of their places, and what a value holds stands
  /// together.
  std::span<const TensorInfo> tensors_below(PlaceId place) const {
    const auto& all = checkpoint_.tensors;
    const auto first =
        std::lower_bound(all.begin(), all.end(), place,
                         [](const TensorInfo& row, PlaceId wanted) { return row.place < wanted; });
    const auto last = std::find_if(first, all.end(), [&](const TensorInfo& row) {
      return child_towards(checkpoint_, place, row.place) == kNoIndex;
    });
    return {first, last};
  }

  /// Shapes of what is kept, and whether tensors lie where nobody knows how they follow.
  Status read_tensors(Use groups_key, Use state_key) {
    std::vector<bool> differs(state_.slots.size());
    for (const auto& tensor : tensors_below(state_.place)) {
      if (tensor.has(kIsPart)) continue;
      const auto below = child_towards(checkpoint_, state_.place, tensor.place);
      const auto key = checkpoint_.places[below].step;
      if (key != groups_key && key != state_key)
        return odd(fmt::format("it holds a tensor at {} as well", quoted(checkpoint_.path(tensor.place))));
      const auto parent = checkpoint_.places[tensor.place].parent;
      if (key != state_key || checkpoint_.places[parent].parent != below) continue;
      const auto slot = slot_of_key_.find(checkpoint_.places[parent].step);
      if (slot != slot_of_key_.end()) note_shape(tensor, state_.slots[slot->second], differs, slot->second);
    }
    for (std::size_t i = 0; i < differs.size(); ++i) {
      if (differs[i]) state_.slots[i].shape.reset();
    }
    return {};
  }

  /// Wrappers with master weights keep them beside the optimizer that they wrap.
  Status check_neighbours() const {
    const auto within = surroundings_of(checkpoint_, state_.place).within;
    if (within == state_.place) return {};
    for (const auto& tensor : tensors_below(within)) {
      if (section_of(checkpoint_, tensor) == Section::kOptimizer) continue;
      return odd(fmt::format("a tensor stands beside it at {}", quoted(checkpoint_.path(tensor.place))));
    }
    return {};
  }

  void note_shape(const TensorInfo& tensor, OptimizerSlot& slot, std::vector<bool>& differs,
                  std::size_t at) const {
    const auto sizes = checkpoint_.shape(tensor);
    const auto name = graph_.string(checkpoint_.places[tensor.place].step).value_or("");
    if (sizes.empty() && std::find(kCounters.begin(), kCounters.end(), name) != kCounters.end()) return;
    const std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
    if (is_factor(name)) {
      differs[at] = true;
    } else if (!slot.shape || slot.shape->empty()) {
      slot.shape = shape;
    } else if (!shape.empty() && *slot.shape != shape) {
      differs[at] = true;
    }
  }

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  const Mapping& mapping_;
  OptimizerState state_;
  std::map<ParameterId, std::uint32_t> slot_of_id_;
  std::unordered_map<Use, std::uint32_t> slot_of_key_;
};

}  // namespace

std::vector<std::uint32_t> optimizers_of(const Checkpoint& checkpoint) {
  std::vector<std::uint32_t> found;
  for (std::uint32_t i = 0; i < checkpoint.mappings.size(); ++i) {
    const auto& mapping = checkpoint.mappings[i];
    if (mapping.is_optimizer && !mapping.in_optimizer) found.push_back(i);
  }
  return found;
}

Result<OptimizerState> read_optimizer_state(const Checkpoint& checkpoint, std::uint32_t mapping) {
  return StateReader(checkpoint, checkpoint.mappings[mapping]).run();
}

std::vector<std::uint32_t> state_dicts_beside(const Checkpoint& checkpoint, PlaceId place) {
  return surroundings_of(checkpoint, place).state_dicts;
}

}  // namespace ckpt
