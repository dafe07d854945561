// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/state_dicts.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/lookup.h"

namespace ckpt {
namespace {

bool is_state_dict(const Mapping& mapping) {
  return mapping.tensors > 0 && mapping.others == 0 && mapping.string_keys && mapping.reached_by_strings &&
         !mapping.in_optimizer && !mapping.is_optimizer;
}

bool is_mixed_root(const Checkpoint& checkpoint, const Mapping& mapping) {
  return checkpoint.places[mapping.place].kind == StepKind::kRoot && mapping.tensors > 0 &&
         mapping.string_keys && !mapping.is_optimizer;
}

/// Makes the state dict of mapping `index`: its tensors and extra states in the order of their keys.
StateDict make_state_dict(Checkpoint& checkpoint, std::uint32_t index) {
  const auto& mapping = checkpoint.mappings[index];
  StateDict dict;
  dict.place = mapping.place;
  dict.mapping = mapping.use;
  dict.mixed_root = mapping.others > 0;
  dict.entries.reserve(mapping.tensors + mapping.extra_states);
  return dict;
}

std::string mappings_with_tensors(const Checkpoint& checkpoint) {
  std::vector<std::string> lines;
  for (const auto& mapping : checkpoint.mappings) {
    if (mapping.tensors == 0) continue;
    lines.push_back(fmt::format("{} ({}{})", quoted_path(checkpoint.path(mapping.place)),
                                counted(mapping.tensors, "tensor"),
                                mapping.string_keys ? "" : ", keys that are no strings"));
    if (lines.size() == 10) break;
  }
  if (lines.empty()) return "no mapping of the file holds tensors";
  return fmt::format("mappings that hold tensors: {}", fmt::join(lines, ", "));
}

/// The module at `root` becomes a state dict; its index, or kNoIndex if there is none.
std::uint32_t take_inner_module(Checkpoint& checkpoint, const std::string& root) {
  const auto inner = std::find_if(checkpoint.inner_modules.begin(), checkpoint.inner_modules.end(),
                                  [&](const StateDict& dict) { return checkpoint.path(dict.place) == root; });
  if (inner == checkpoint.inner_modules.end()) return kNoIndex;
  const auto index = static_cast<std::uint32_t>(checkpoint.state_dicts.size());
  for (const auto& entry : inner->entries) {
    if (entry.tensor == kNoIndex) continue;
    checkpoint.tensors[entry.tensor].name = checkpoint.strings[entry.name];
    checkpoint.tensors[entry.tensor].state_dict = index;
  }
  bool inside = false;  // the modules of one state dict follow each other
  for (auto& module : checkpoint.modules) {
    if (module.parent == kNoIndex) inside = module.place == inner->place;
    if (inside) module.state_dict = index;
  }
  checkpoint.state_dicts.push_back(std::move(*inner));
  checkpoint.inner_modules.erase(inner);
  return index;
}

}  // namespace

std::vector<TiedName> tied_names(const Checkpoint& checkpoint) {
  const auto& metadata = checkpoint.metadata;
  if (metadata.empty()) return {};
  std::unordered_map<std::string_view, TensorId> tensors;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    if (!row.has(kInserted)) tensors.emplace(row.name, id);
  }
  std::vector<TiedName> names;
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const auto& [name, target] = metadata[i];
    if (name == "format" || tensors.contains(name)) continue;
    const auto found = tensors.find(target);
    if (found != tensors.end()) names.push_back({i, found->second});
  }
  return names;
}

void select_state_dicts(Checkpoint& checkpoint, std::vector<ExtraState> extra_states,
                        std::vector<StateDict> modules, const std::vector<std::uint32_t>& mapping_of_tensor) {
  auto& dicts = checkpoint.state_dicts;
  std::vector<std::uint32_t> dict_of_mapping(checkpoint.mappings.size(), kNoIndex);
  auto take = [&](std::uint32_t mapping) {
    dict_of_mapping[mapping] = static_cast<std::uint32_t>(dicts.size());
    dicts.push_back(make_state_dict(checkpoint, mapping));
  };
  for (std::uint32_t i = 0; i < checkpoint.mappings.size(); ++i) {
    if (is_state_dict(checkpoint.mappings[i])) take(i);
  }
  if (dicts.empty() && modules.empty()) {
    for (std::uint32_t i = 0; i < checkpoint.mappings.size(); ++i) {
      if (is_mixed_root(checkpoint, checkpoint.mappings[i])) take(i);
    }
  }
  for (auto& dict : modules) {
    for (const auto& entry : dict.entries) {
      if (entry.tensor != kNoIndex)
        checkpoint.tensors[entry.tensor].state_dict = static_cast<std::uint32_t>(dicts.size());
    }
    dicts.push_back(std::move(dict));
  }
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    auto& tensor = checkpoint.tensors[id];
    const auto mapping = mapping_of_tensor[id];
    if (mapping != kNoIndex && dict_of_mapping[mapping] != kNoIndex) {
      tensor.state_dict = dict_of_mapping[mapping];
      dicts[tensor.state_dict].entries.push_back({checkpoint.places[tensor.place].step, tensor.use, id});
    } else if (tensor.state_dict == kNoIndex) {
      tensor.name = {};
    }
  }
  for (const auto& extra : extra_states) {
    const auto dict = dict_of_mapping[extra.mapping];
    if (dict != kNoIndex) dicts[dict].entries.push_back({extra.key, extra.value, kNoIndex});
  }
  for (auto& dict : dicts) {
    if (dict.of_module) continue;
    if (extra_states.empty()) continue;  // they are in order
    std::stable_sort(dict.entries.begin(), dict.entries.end(),
                     [](const StateDictEntry& a, const StateDictEntry& b) { return a.key < b.key; });
  }
  std::stable_sort(dicts.begin(), dicts.end(),
                   [](const StateDict& a, const StateDict& b) { return a.place < b.place; });
  for (std::uint32_t i = 0; i < dicts.size(); ++i) {
    for (const auto& entry : dicts[i].entries) {
      if (entry.tensor != kNoIndex) checkpoint.tensors[entry.tensor].state_dict = i;
    }
  }
}

std::string first_path_of(const Checkpoint& checkpoint, const std::string& path) {
  if (!checkpoint.has_document()) return path;
  const auto found = find_value(checkpoint, path);
  if (!found.ok()) return path;
  const auto value = checkpoint.graph().resolve(found->value);
  for (const auto& mapping : checkpoint.mappings) {
    const bool is_of_it = mapping.use != kNoUse && checkpoint.places[mapping.place].document == 0;
    if (is_of_it && checkpoint.graph().resolve(mapping.use) == value) return checkpoint.path(mapping.place);
  }
  return path;
}

Result<std::vector<std::uint32_t>> choose_state_dicts(Checkpoint& checkpoint,
                                                      const std::vector<std::string>& roots) {
  std::vector<std::uint32_t> chosen;
  if (roots.empty()) {
    for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) chosen.push_back(i);
    if (!chosen.empty()) return chosen;
    if (checkpoint.format == FormatId::kTorchScript) {
      return Error(
          ErrorCode::kNotFound,
          "the module has no parameters and no buffers: its tensors are constants of the code, packed "
          "or other attributes");
    }
    return Error(ErrorCode::kNotFound, "no state dict in the file; " + mappings_with_tensors(checkpoint))
        .with_hint("name a mapping with --root PATH");
  }
  for (const auto& path : roots) {
    const auto root = first_path_of(checkpoint, path);
    std::uint32_t found = kNoIndex;
    for (std::uint32_t i = 0; i < checkpoint.state_dicts.size() && found == kNoIndex; ++i) {
      if (checkpoint.path(checkpoint.state_dicts[i].place) == root) found = i;
    }
    if (found == kNoIndex) found = take_inner_module(checkpoint, root);
    for (std::uint32_t i = 0; i < checkpoint.mappings.size() && found == kNoIndex; ++i) {
      const auto& mapping = checkpoint.mappings[i];
      if (!mapping.string_keys || checkpoint.path(mapping.place) != root) continue;
      found = static_cast<std::uint32_t>(checkpoint.state_dicts.size());
      auto dict = make_state_dict(checkpoint, i);
      for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
        auto& tensor = checkpoint.tensors[id];
        const auto& place = checkpoint.places[tensor.place];
        if (place.parent != mapping.place || place.kind != StepKind::kItem || tensor.has(kIsPart)) continue;
        tensor.name = checkpoint.strings.emplace_back(checkpoint.graph().string(place.step).value_or(""));
        tensor.state_dict = found;
        dict.entries.push_back({place.step, tensor.use, id});
      }
      checkpoint.state_dicts.push_back(std::move(dict));
    }
    if (found == kNoIndex) {
      return Error(ErrorCode::kNotFound, fmt::format("no mapping with string keys at {}; {}",
                                                     quoted_path(root), mappings_with_tensors(checkpoint)));
    }
    if (std::find(chosen.begin(), chosen.end(), found) == chosen.end()) chosen.push_back(found);
  }
  return chosen;
}

}  // namespace ckpt
