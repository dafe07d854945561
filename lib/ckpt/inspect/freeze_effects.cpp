// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/freeze_effects.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "ckpt/model/module_names.h"
#include "ckpt/model/parameter_roles.h"
#include "ckpt/model/wrappers.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kStepBytes = 4;  // Adam keeps a float32 a parameter, on every torch since 1.12

std::string_view name_of(const Checkpoint& checkpoint, const FreezeEntry& entry) {
  return checkpoint.tensors[entry.tensor].name;
}

void add(FreezeAmount& amount, std::uint64_t numel, std::uint64_t bytes) {
  ++amount.tensors;
  amount.numel += numel;
  amount.bytes += bytes;
}

/// Bytes of the wrappers in front of all keys ("module."): they are no level of the model.
std::size_t wrapper_size(const Checkpoint& checkpoint, const FreezeReport& report) {
  const auto wrappers = known_wrappers();
  std::size_t size = 0;
  for (;;) {
    std::string_view wrapper;
    for (const auto& entry : report.entries) {
      const auto rest = name_of(checkpoint, entry).substr(size);
      const auto segment = rest.substr(0, rest.find('.'));
      if (wrapper.empty()) {
        if (std::find(wrappers.begin(), wrappers.end(), segment) == wrappers.end()) return size;
        wrapper = segment;
      }
      if (segment != wrapper || segment.size() == rest.size()) return size;
    }
    if (wrapper.empty()) return size;
    size += wrapper.size() + 1;
  }
}

/// The first levels of the module that has the key; the key itself where it is the root's.
std::string_view module_group(std::string_view key, std::size_t wrapper, std::uint64_t depth) {
  if (depth == 0) return {};
  const auto module = module_of(key.substr(wrapper));
  if (module.empty()) return key;
  auto end = module.find('.');
  for (std::uint64_t level = 1; level < depth && end != module.npos; ++level) end = module.find('.', end + 1);
  return key.substr(0, wrapper + std::min(end, module.size()));
}

struct View {
  StorageId storage;
  Extent extent;
  std::uint32_t entry;
};

/// Parameters, each once, by storage and place in it.
std::vector<View> views_in_order(const Checkpoint& checkpoint, const FreezeReport& report) {
  std::vector<View> views;
  for (std::uint32_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    const auto& tensor = checkpoint.tensors[entry.tensor];
    if (!is_parameter(entry) || entry.first != i || tensor.storage == kNoIndex) continue;
    const auto extent = checkpoint.view_extent(tensor);
    // between the elements of a view with holes others may lie
    if (extent.size > 0 && extent.size == checkpoint.bytes(tensor))
      views.push_back({tensor.storage, extent, i});
  }
  std::sort(views.begin(), views.end(), [](const View& a, const View& b) {
    if (a.storage != b.storage) return a.storage < b.storage;
    if (a.extent.offset != b.extent.offset) return a.extent.offset < b.extent.offset;
    return a.entry < b.entry;
  });
  return views;
}

}  // namespace

void count_groups(const Checkpoint& checkpoint, const FreezeGrouping& grouping, FreezeReport& report) {
  const auto wrapper = wrapper_size(checkpoint, report);
  std::unordered_map<std::string, std::uint32_t> indices;
  for (std::uint32_t i = 0; i < report.entries.size(); ++i) {
    auto& entry = report.entries[i];
    const auto& tensor = checkpoint.tensors[entry.tensor];
    std::string name(grouping.expression ? grouping.expression->captured(tensor.name).value_or("(no match)")
                                         : std::string(module_group(tensor.name, wrapper, grouping.depth)));
    const auto [found, is_new] =
        indices.emplace(std::move(name), static_cast<std::uint32_t>(report.groups.size()));
    if (is_new) report.groups.push_back({found->first, {}, {}, {}});
    entry.group = found->second;
    if (entry.first != i) continue;
    const auto numel = checkpoint.numel(tensor);
    const auto bytes = checkpoint.bytes(tensor);
    for (auto* group : {&report.groups[entry.group], &report.total}) {
      add(is_parameter(entry) ? group->parameters : group->buffers, numel, bytes);
      if (entry.trains) add(group->trainable, numel, bytes);
    }
  }
}

void count_memory(OptimizerKind optimizer, FreezeReport& report) {
  const auto& trainable = report.total.trainable;
  report.memory.gradients = trainable.bytes;
  switch (optimizer) {
    case OptimizerKind::kSgd: break;
    case OptimizerKind::kMomentum: report.memory.state = trainable.bytes; break;
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      report.memory.steps = kStepBytes * trainable.tensors;
      report.memory.state = 2 * trainable.bytes + report.memory.steps;
      break;
  }
}

void find_overlaps(const Checkpoint& checkpoint, FreezeReport& report) {
  const auto views = views_in_order(checkpoint, report);
  const View* reach[2] = {nullptr, nullptr};  // the view that ends last, of the frozen and the training ones
  for (const auto& view : views) {
    const bool trains = report.entries[view.entry].trains;
    const auto* other = reach[trains ? 0 : 1];
    if (other != nullptr && other->storage == view.storage && other->extent.end() > view.extent.offset) {
      const auto& frozen = report.entries[trains ? other->entry : view.entry];
      const auto& training = report.entries[trains ? view.entry : other->entry];
      report.conflicts.push_back({name_of(checkpoint, frozen), name_of(checkpoint, training), false, true});
    }
    auto*& own = reach[trains ? 1 : 0];
    if (own == nullptr || own->storage != view.storage || own->extent.end() < view.extent.end()) own = &view;
  }
}

void find_moving_statistics(const Checkpoint& checkpoint, FreezeReport& report) {
  if (report.total.trainable.tensors == report.total.parameters.tensors) return;
  std::unordered_map<std::string_view, std::size_t> modules;
  auto& moving = report.moving;
  for (const auto& entry : report.entries) {
    const auto key = name_of(checkpoint, entry);
    if (is_parameter(entry) || !is_running_statistic(leaf_of(key))) continue;
    const auto [found, is_new] = modules.emplace(module_of(key), moving.size());
    if (is_new) moving.push_back({module_of(key), {}});
    moving[found->second].buffers.push_back(key);
  }
  if (moving.empty()) return;
  std::unordered_set<std::string_view> training;
  for (const auto& entry : report.entries) {
    if (entry.trains) training.insert(module_of(name_of(checkpoint, entry)));
  }
  std::erase_if(moving, [&](const MovingStatistics& module) { return training.contains(module.module); });
}

}  // namespace ckpt
