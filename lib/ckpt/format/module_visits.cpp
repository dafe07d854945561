// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/module_visits.h"

#include <algorithm>

namespace ckpt {
namespace {

constexpr std::uint64_t kMostAgain = 64;  // times the whole stream; real files share a few modules
constexpr std::size_t kLongestPrefix = 1000;

}  // namespace

std::uint32_t ModuleVisits::add_root(const ModuleObject& module, Use use, PlaceId place, bool counts,
                                     bool again) {
  Visit visit{};
  visit.row.place = place;
  visit.row.use = use;
  visit.state_dict = static_cast<std::uint32_t>(roots_.size());
  visit.again = again;
  const auto index = add(module, std::move(visit));
  roots_.push_back(index);
  counts_.push_back(counts);
  if (counts) root_nodes_.insert(visits_[index].node);
  return index;
}

std::uint32_t ModuleVisits::add_child(const ModuleObject& module, Use use, PlaceId place,
                                      std::uint32_t parent, std::string_view name, bool again) {
  Visit visit{};
  visit.row.place = place;
  visit.row.use = use;
  visit.row.parent = parent;
  visit.row.name = keep(std::string(name));
  auto prefix = std::string(visits_[parent].row.prefix);
  if (!visits_[parent].hides_name) prefix += std::string(name) + '.';
  visit.row.prefix = keep(std::move(prefix));
  visit.state_dict = visits_[parent].state_dict;
  visit.again = again;
  const auto index = add(module, std::move(visit));
  visits_[parent].children.push_back(index);
  return index;
}

std::uint32_t ModuleVisits::add(const ModuleObject& module, Visit visit) {
  const auto& graph = checkpoint_.graph();
  visit.node = graph.resolve(visit.row.use);
  visit.hides_name = hides_its_name(graph, module);
  auto packed = packed_keys(graph, module);
  visit.is_opaque = !packed.known;
  visit.packed = std::move(packed.keys);
  if (const auto hidden = module.find(graph, "_non_persistent_buffers_set"); hidden != kNoUse)
    visit.hidden = names_of_set(graph, hidden);
  visits_.push_back(std::move(visit));
  return static_cast<std::uint32_t>(visits_.size() - 1);
}

std::string_view ModuleVisits::add_value(std::uint32_t module, bool is_buffer, std::string_view name, Use key,
                                         Use value, TensorId tensor) {
  auto& visit = visits_[module];
  if (is_buffer && std::find(visit.hidden.begin(), visit.hidden.end(), name) != visit.hidden.end()) return {};
  const auto text = keep(std::string(visit.row.prefix) + std::string(name));
  const StateDictEntry entry{key, value, tensor, static_cast<std::uint32_t>(checkpoint_.strings.size() - 1)};
  (is_buffer ? visit.buffers : visit.parameters).push_back(entry);
  return text;
}

bool ModuleVisits::is_too_deep(std::uint32_t parent, std::string_view name) const {
  return visits_[parent].row.prefix.size() + name.size() > kLongestPrefix;
}

bool ModuleVisits::may_open_again_in(std::uint32_t parent, Use node) {
  for (auto above = parent; above != kNoIndex; above = visits_[above].row.parent) {
    if (visits_[above].node == node) return false;
  }
  return spend_on(node);
}

/// A module that is opened again takes as many rows as it has tensors, and those of what it shares besides.
bool ModuleVisits::spend_on(Use node) {
  const auto& graph = checkpoint_.graph();
  nodes_again_ += node - graph.start(node) + 1;
  return nodes_again_ <= kMostAgain * graph.size();
}

std::vector<StateDictEntry> ModuleVisits::packed_entries(const Visit& visit) {
  if (!visit.packed.empty() && rows_.empty()) {
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) {
      const auto& row = checkpoint_.tensors[id];
      if (row.use != kNoUse && !row.has(kIsPart)) rows_[row.use].push_back(id);
    }
  }
  std::vector<StateDictEntry> entries;
  for (const auto& [name, value] : visit.packed) {
    const auto text = keep(std::string(visit.row.prefix) + std::string(name));
    StateDictEntry entry{kNoUse, value, kNoIndex, static_cast<std::uint32_t>(checkpoint_.strings.size() - 1)};
    const auto rows = rows_.find(value);
    if (rows != rows_.end()) {
      const auto row = std::find_if(rows->second.begin(), rows->second.end(),
                                    [&](TensorId id) { return checkpoint_.tensors[id].name.empty(); });
      if (row != rows->second.end()) entry.tensor = *row;
    }
    entries.push_back(entry);
    if (entry.tensor == kNoIndex) continue;
    auto& tensor = checkpoint_.tensors[entry.tensor];
    tensor.name = text;  // no parameter of the layer, though it may be an object of that class
    tensor.flags = static_cast<std::uint16_t>((tensor.flags & ~unsigned{kIsParameter | kRequiresGrad}) |
                                              kBufferByModule);
  }
  return entries;
}

std::vector<std::uint32_t> ModuleVisits::below(std::uint32_t root) const {
  std::vector<std::uint32_t> order;
  std::vector<std::uint32_t> left = {root};
  while (!left.empty()) {
    const auto visit = left.back();
    left.pop_back();
    order.push_back(visit);
    const auto& children = visits_[visit].children;
    left.insert(left.end(), children.rbegin(), children.rend());
  }
  return order;
}

std::vector<StateDict> ModuleVisits::take_state_dicts() {
  std::vector<StateDict> dicts;
  for (std::size_t i = 0; i < roots_.size(); ++i) {
    StateDict dict;
    dict.place = visits_[roots_[i]].row.place;
    dict.of_module = true;
    for (const auto visit : below(roots_[i])) {
      dict.is_opaque = dict.is_opaque || visits_[visit].is_opaque;
      for (const auto* entries : {&visits_[visit].parameters, &visits_[visit].buffers})
        dict.entries.insert(dict.entries.end(), entries->begin(), entries->end());
      const auto packed = packed_entries(visits_[visit]);
      dict.entries.insert(dict.entries.end(), packed.begin(), packed.end());
    }
    if (dict.entries.empty() && !dict.is_opaque) continue;  // a layer without parameters
    if (counts_[i]) {
      dicts.push_back(std::move(dict));
    } else {
      checkpoint_.inner_modules.push_back(std::move(dict));
    }
  }
  return dicts;
}

void ModuleVisits::list_modules() {
  std::unordered_map<PlaceId, std::uint32_t> dict_at;
  const auto& dicts = checkpoint_.state_dicts;
  for (std::uint32_t i = 0; i < dicts.size(); ++i) {
    if (dicts[i].of_module) dict_at.emplace(dicts[i].place, i);
  }
  for (const auto root : roots_) {
    const auto dict = dict_at.find(visits_[root].row.place);
    std::unordered_map<std::uint32_t, std::uint32_t> rows;  // by visit
    for (const auto visit : below(root)) {
      auto row = visits_[visit].row;
      if (dict != dict_at.end()) row.state_dict = dict->second;
      if (row.parent != kNoIndex) row.parent = rows.at(row.parent);
      rows.emplace(visit, static_cast<std::uint32_t>(checkpoint_.modules.size()));
      checkpoint_.modules.push_back(row);
    }
  }
}

}  // namespace ckpt
