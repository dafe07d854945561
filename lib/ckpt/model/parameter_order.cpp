// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/parameter_order.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/parameter_roles.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {
namespace {

using Shape = std::vector<std::int64_t>;

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// A tensor of a state dict with the keys that are tied to it.
struct Parameter {
  std::vector<std::uint32_t> entries;
  Shape shape;
  bool is_buffer = true;  ///< by all of its keys
  bool is_sure = false;   ///< a parameter by one of them; else nothing tells
};

/// Tensors of a state dict, tied ones once, in the order of their first keys.
class Parameters {
 public:
  Parameters(const Checkpoint& checkpoint, std::uint32_t state_dict) {
    const auto& entries = checkpoint.state_dicts[state_dict].entries;
    parameter_of_entry_.resize(entries.size(), kNoIndex);
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (entries[i].tensor == kNoIndex) continue;
      const auto& row = checkpoint.original(entries[i].tensor);
      if (row.place != kNoIndex) add(checkpoint, row, i);  // else an edit brought it
    }
  }

  const std::vector<Parameter>& all() const { return all_; }

  /// Index into `all` of the tensor under a key.
  std::uint32_t of_entry(std::uint32_t entry) const { return parameter_of_entry_[entry]; }

 private:
  /// Two keys are tied if their tensors are the same view of the same bytes, or one object.
  using Identity = std::tuple<std::uint64_t, std::uint64_t, Dtype, Shape, Shape>;

  static Identity identity_of(const Checkpoint& checkpoint, const TensorInfo& row) {
    constexpr std::uint64_t kObject = 1ULL << 32U;  // above all storages
    if (row.storage != kNoIndex) {
      const auto shape = checkpoint.shape(row);
      return {row.storage, row.offset, row.dtype, {shape.begin(), shape.end()}, checkpoint.strides(row)};
    }
    const auto object = checkpoint.has_document() ? checkpoint.graph().resolve(row.use) : row.place;
    return {kObject | object, 0, row.dtype, {}, {}};
  }

  void add(const Checkpoint& checkpoint, const TensorInfo& row, std::uint32_t entry) {
    const auto [place, is_new] =
        known_.emplace(identity_of(checkpoint, row), static_cast<std::uint32_t>(all_.size()));
    if (is_new) {
      const auto shape = checkpoint.shape(row);
      all_.push_back({{}, {shape.begin(), shape.end()}, true, false});
    }
    auto& parameter = all_[place->second];
    const auto role = role_of(checkpoint, row).kind;
    parameter.entries.push_back(entry);
    parameter.is_buffer = parameter.is_buffer && role == RoleKind::kBuffer;
    parameter.is_sure = parameter.is_sure || role == RoleKind::kParameter;
    parameter_of_entry_[entry] = place->second;
  }

  std::vector<Parameter> all_;
  std::vector<std::uint32_t> parameter_of_entry_;
  std::map<Identity, std::uint32_t> known_;
};

class OrderFinder {
 public:
  OrderFinder(const Checkpoint& checkpoint, const OptimizerState& optimizer, std::uint32_t state_dict)
      : checkpoint_(checkpoint),
        optimizer_(optimizer),
        state_dict_(state_dict),
        parameters_(checkpoint, state_dict) {}

  ParameterOrder run() {
    if (optimizer_.has_names) {
      if (prove_by_names()) order_.evidence = OrderEvidence::kNames;
      return std::move(order_);
    }
    if (prove_by_shapes()) {
      order_.evidence = OrderEvidence::kShapes;
    } else if (agrees_with_model_order()) {
      order_.evidence = OrderEvidence::kAssumed;
    }
    return std::move(order_);
  }

 private:
  bool disagree(std::string why) {
    order_.disagreement = std::move(why);
    order_.entries.clear();
    return false;
  }

  std::string key(std::uint32_t parameter) const {
    return quoted(checkpoint_.original_name(state_dict_, parameters_.all()[parameter].entries.front()));
  }

  std::string dict_text() const {
    return fmt::format("the state dict at {}",
                       quoted_path(checkpoint_.path(checkpoint_.state_dicts[state_dict_].place)));
  }

  bool take(std::uint32_t parameter, const OptimizerSlot& slot) {
    const auto [owner, is_first] = owners_.emplace(parameter, slot.index);
    if (!is_first)
      return disagree(
          fmt::format("indices {} and {} would both be {}", owner->second, slot.index, key(parameter)));
    order_.entries.push_back(parameters_.all()[parameter].entries);
    return true;
  }

  bool prove_by_names() {
    const auto named = entries_by_name(checkpoint_, optimizer_, state_dict_);
    for (std::size_t i = 0; i < named.size(); ++i) {
      const auto& slot = optimizer_.slots[i];
      if (named[i] == kNoIndex) {
        const auto name = checkpoint_.graph().string(slot.name);
        return disagree(fmt::format("index {} is named {}, which is no key of {}", slot.index,
                                    quoted(name.value_or("")), dict_text()));
      }
      if (!take(parameters_.of_entry(named[i]), slot)) return false;
    }
    return true;
  }

  bool prove_by_shapes() {
    std::map<Shape, std::vector<std::uint32_t>> by_shape;
    for (std::uint32_t i = 0; i < parameters_.all().size(); ++i) {
      if (!parameters_.all()[i].is_buffer) by_shape[parameters_.all()[i].shape].push_back(i);
    }
    for (const auto& slot : optimizer_.slots) {
      if (!slot.shape) return disagree(fmt::format("nothing tells the shape of index {}", slot.index));
      const auto found = by_shape.find(*slot.shape);
      if (found == by_shape.end()) {
        return disagree(fmt::format("index {} has the shape {}, which no parameter of {} has", slot.index,
                                    shape_text(*slot.shape), dict_text()));
      }
      const auto& same = found->second;
      if (same.size() > 1) {
        const auto others = same.size() == 2 ? fmt::format(" and {}", key(same[1]))
                                             : fmt::format(", {} and {} more", key(same[1]), same.size() - 2);
        return disagree(fmt::format("index {} has the shape {}, as have {}{}", slot.index,
                                    shape_text(*slot.shape), key(same[0]), others));
      }
      if (!take(same.front(), slot)) return false;
    }
    return true;
  }

  /// After `prove_by_shapes` failed.
  bool agrees_with_model_order() {
    owners_.clear();
    if (optimizer_.groups != 1 || !optimizer_.counts_up) return false;
    std::vector<std::uint32_t> possible;
    for (std::uint32_t i = 0; i < parameters_.all().size(); ++i) {
      if (!parameters_.all()[i].is_buffer) possible.push_back(i);
    }
    const auto count = optimizer_.slots.size();
    if (possible.size() != count)  // tensors of which nothing tells what they are may be buffers
      std::erase_if(possible, [&](auto i) { return !parameters_.all()[i].is_sure; });
    if (possible.size() != count) {
      return disagree(fmt::format("{}, and it counts {} where {} has {}", order_.disagreement,
                                  with_separators(count), dict_text(),
                                  counted(possible.size(), "parameter")));
    }
    std::vector<std::vector<std::uint32_t>> entries;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& slot = optimizer_.slots[i];
      const auto& parameter = parameters_.all()[possible[i]];
      if (slot.shape && *slot.shape != parameter.shape) {
        return disagree(fmt::format("index {} has the shape {}, but parameter {} of {} is {} of shape {}",
                                    slot.index, shape_text(*slot.shape), i, dict_text(), key(possible[i]),
                                    shape_text(parameter.shape)));
      }
      entries.push_back(parameter.entries);
    }
    order_.entries = std::move(entries);
    return true;
  }

  const Checkpoint& checkpoint_;
  const OptimizerState& optimizer_;
  std::uint32_t state_dict_;
  Parameters parameters_;
  ParameterOrder order_;
  std::unordered_map<std::uint32_t, std::int64_t> owners_;  ///< parameters that an index has taken
};

/// Entries by name, where each name is used once.
std::unordered_map<std::string, std::uint32_t> index_of(const std::vector<std::string>& names,
                                                        const std::vector<std::uint32_t>& entries) {
  std::unordered_map<std::string, std::uint32_t> index;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto [place, is_new] = index.emplace(names[i], entries[i]);
    if (!is_new) place->second = kNoIndex;
  }
  return index;
}

std::vector<std::uint32_t> look_up(const std::vector<std::string>& names,
                                   const std::unordered_map<std::string, std::uint32_t>& index) {
  std::vector<std::uint32_t> found;
  for (const auto& name : names) {
    const auto entry = index.find(name);
    found.push_back(entry == index.end() ? kNoIndex : entry->second);
  }
  return found;
}

bool is_whole(const std::vector<std::uint32_t>& entries) {
  return std::find(entries.begin(), entries.end(), kNoIndex) == entries.end();
}

}  // namespace

std::string_view order_evidence_name(OrderEvidence evidence) {
  switch (evidence) {
    case OrderEvidence::kNothing: return "nothing";
    case OrderEvidence::kAssumed: return "model-order";
    case OrderEvidence::kShapes: return "shapes";
    case OrderEvidence::kNames: return "names";
  }
  return "nothing";
}

ParameterOrder find_parameter_order(const Checkpoint& checkpoint, const OptimizerState& optimizer,
                                    std::uint32_t state_dict) {
  return OrderFinder(checkpoint, optimizer, state_dict).run();
}

std::vector<std::uint32_t> entries_by_name(const Checkpoint& checkpoint, const OptimizerState& optimizer,
                                           std::uint32_t state_dict) {
  std::vector<std::string> keys;
  std::vector<std::uint32_t> entries;
  const auto& dict = checkpoint.state_dicts[state_dict];
  for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
    const auto tensor = dict.entries[i].tensor;
    if (tensor == kNoIndex || checkpoint.original(tensor).place == kNoIndex) continue;
    keys.push_back(checkpoint.original_name(state_dict, i));
    entries.push_back(i);
  }
  std::vector<std::string> names;
  for (const auto& slot : optimizer.slots) {
    const auto name = slot.name == kNoUse ? std::nullopt : checkpoint.graph().string(slot.name);
    names.push_back(name.value_or(""));
  }
  auto found = look_up(names, index_of(keys, entries));
  if (is_whole(found)) return found;
  strip_wrappers(names, {});
  strip_wrappers(keys, {});
  auto stripped = look_up(names, index_of(keys, entries));
  return is_whole(stripped) ? stripped : found;
}

}  // namespace ckpt
