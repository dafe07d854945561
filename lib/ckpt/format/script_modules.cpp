// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/script_modules.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

/// A state dict may be so many times as long as the file has tensors and modules: shared ones count again.
constexpr std::uint64_t kMostRepetitions = 64;
constexpr std::uint64_t kFewSteps = 65536;
constexpr std::size_t kLongestPrefix = 8192;    // bytes
constexpr std::uint64_t kPrefixOfOneStep = 64;  // bytes: longer ones count for more

}  // namespace

std::uint32_t ScriptModules::add(Use node, const GlobalName& name, PlaceId place,
                                 const Checkpoint& checkpoint) {
  const auto* script_class = classes_.find(name);
  if (script_class == nullptr && is_script_class(name) && !std::exchange(reported_, true)) {
    const auto path = checkpoint.path(place);
    diagnostics_.add({"torchscript-class-unknown", Severity::kWarning, path,
                      fmt::format("the code has no class '{}.{}' for the object at {}: its tensors are in no "
                                  "state dict",
                                  printable(name.module), printable(name.name), quoted_path(path)),
                      ""});
  }
  if (script_class == nullptr || !script_class->is_module) return kNoIndex;
  const auto index = static_cast<std::uint32_t>(modules_.size());
  modules_.push_back({script_class, place, {}, {}});
  module_of_node_.emplace(node, index);
  return index;
}

std::uint16_t ScriptModules::add_tensor(std::uint32_t module, Use key, TensorId tensor,
                                        const ValueGraph& graph) {
  const auto& script_class = *modules_[module].script_class;
  const auto position = script_class.position(graph.string(key).value_or(""));
  if (position == kNoIndex) return 0;
  const auto& attribute = script_class.attributes[position];
  // PyTorch 1.4 and 1.5 don't tell buffers from other tensors; their own state_dict() lists both.
  const bool may_be_buffer = !script_class.lists_buffers && attribute.type == "Tensor";
  if (!attribute.is_parameter && !attribute.is_buffer && !may_be_buffer) return 0;
  modules_[module].tensors.push_back({position, key, tensor, kNoUse, kNoIndex, attribute.is_parameter});
  if (attribute.is_parameter) return kIsParameter;
  return attribute.is_buffer ? kBufferByModule : 0;
}

void ScriptModules::add_object(std::uint32_t module, Use key, Use node, PlaceId place,
                               const ValueGraph& graph) {
  const auto position = modules_[module].script_class->position(graph.string(key).value_or(""));
  if (position != kNoIndex) modules_[module].objects.push_back({position, key, kNoIndex, node, place, false});
}

Result<StateDict> ScriptModules::make_state_dict(Checkpoint& checkpoint) {
  for (auto& module : modules_) {
    const auto by_position = [](const Slot& a, const Slot& b) { return a.position < b.position; };
    std::stable_sort(module.objects.begin(), module.objects.end(), by_position);
    std::stable_sort(module.tensors.begin(), module.tensors.end(), [&](const Slot& a, const Slot& b) {
      return a.is_parameter != b.is_parameter ? a.is_parameter : by_position(a, b);
    });
  }
  StateDict dict;
  dict.place = modules_.front().place;
  dict.of_module = true;
  steps_left_ = kFewSteps + kMostRepetitions * (modules_.size() + checkpoint.tensors.size());
  CKPT_RETURN_IF_ERROR(enter({0, modules_.front().place, "", 0}, checkpoint, dict));
  while (!frames_.empty()) {
    auto& frame = frames_.back();
    auto& module = modules_[frame.module];
    if (frame.next == module.objects.size()) {
      module.open = false;
      frames_.pop_back();
      continue;
    }
    const auto& slot = module.objects[frame.next++];
    const auto child = module_of_node_.find(slot.object);
    if (child == module_of_node_.end()) continue;
    Frame below{child->second, slot.place, {}, 0};
    if (frame.place != module.place) {  // met again: so is what it contains
      below.place = static_cast<PlaceId>(checkpoint.places.size());
      checkpoint.places.push_back({frame.place, slot.key, StepKind::kAttribute});
    }
    below.prefix = frame.prefix + checkpoint.graph().string(slot.key).value_or("") + '.';
    CKPT_RETURN_IF_ERROR(enter(std::move(below), checkpoint, dict));
  }
  put_rows_in_order(checkpoint, dict);
  return dict;
}

Status ScriptModules::enter(Frame frame, Checkpoint& checkpoint, StateDict& dict) {
  auto& module = modules_[frame.module];
  if (module.open) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the module at {} contains itself", quoted_path(checkpoint.path(module.place))));
  }
  if (frame.prefix.size() > kLongestPrefix) {
    return Error(
        ErrorCode::kRefused,
        fmt::format("modules are nested so deeply that a key would have more than {} bytes", kLongestPrefix));
  }
  const auto steps = (module.tensors.size() + 1) * (1 + frame.prefix.size() / kPrefixOfOneStep);
  if (steps > steps_left_) {
    return Error(ErrorCode::kRefused,
                 fmt::format("modules are shared so often that the state dict would have more than {} keys",
                             dict.entries.size()));
  }
  steps_left_ -= steps;
  module.open = true;
  list_tensors(frame, checkpoint, dict);
  frames_.push_back(std::move(frame));
  return {};
}

void ScriptModules::list_tensors(const Frame& frame, Checkpoint& checkpoint, StateDict& dict) {
  const auto& module = modules_[frame.module];
  for (const auto& slot : module.tensors) {
    auto tensor = slot.tensor;
    if (frame.place != module.place) tensor = repeat_row(tensor, frame.place, slot.key, checkpoint);
    auto& row = checkpoint.tensors[tensor];
    row.name =
        checkpoint.strings.emplace_back(frame.prefix + checkpoint.graph().string(slot.key).value_or(""));
    dict.entries.push_back({slot.key, row.use, tensor});
  }
}

/// Rows that are no keys come last.
void ScriptModules::put_rows_in_order(Checkpoint& checkpoint, StateDict& dict) {
  auto& entries = dict.entries;
  const auto by_row = [](const StateDictEntry& a, const StateDictEntry& b) { return a.tensor < b.tensor; };
  if (std::is_sorted(entries.begin(), entries.end(), by_row)) return;
  auto& rows = checkpoint.tensors;
  std::vector<TensorInfo> ordered;
  ordered.reserve(rows.size());
  std::vector<bool> taken(rows.size());
  const auto take = [&](TensorId first) {  // with its parts
    for (TensorId id = first; id <= first + rows[first].parts; ++id) {
      taken[id] = true;
      ordered.push_back(rows[id]);
    }
  };
  for (auto& entry : entries) {
    const auto row = static_cast<TensorId>(ordered.size());
    take(entry.tensor);
    entry.tensor = row;
  }
  for (TensorId id = 0; id < rows.size(); ++id) {
    if (!taken[id]) take(id);
  }
  rows = std::move(ordered);
}

/// The tensor under the attribute `key` of its module, seen at another place of the module: rows of its own,
/// one object.
TensorId ScriptModules::repeat_row(TensorId tensor, PlaceId module, Use key, Checkpoint& checkpoint) {
  const auto first = static_cast<TensorId>(checkpoint.tensors.size());
  const auto place = static_cast<PlaceId>(checkpoint.places.size());
  checkpoint.places.push_back({module, key, StepKind::kAttribute});
  const auto parts = checkpoint.tensors[tensor].parts;
  for (TensorId i = tensor; i <= tensor + parts; ++i) {
    auto row = checkpoint.tensors[i];
    const auto step = checkpoint.places[row.place];
    row.place = place;
    if (i > tensor) {
      row.place = static_cast<PlaceId>(checkpoint.places.size());
      checkpoint.places.push_back({place, step.step, step.kind});
    }
    checkpoint.tensors.push_back(row);
  }
  return first;
}

}  // namespace ckpt
