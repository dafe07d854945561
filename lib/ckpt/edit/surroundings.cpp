// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/surroundings.h"

#include <fmt/format.h>

namespace ckpt {

std::optional<std::string> gradient_obstacle(const Checkpoint& checkpoint, Dtype dtype) {
  const auto& info = dtype_info(dtype);
  if (!info.storage_class.empty() || checkpoint.format == FormatId::kTorchScript) return std::nullopt;
  return fmt::format("requires a gradient and is no Parameter; PyTorch can't load such tensors of {}",
                     info.name);
}

Surroundings::Surroundings(const EditContext& context) {
  const auto& checkpoint = context.checkpoint;
  const auto places = checkpoint.places.size();
  std::vector<bool> owned(places);  // below an optimizer or among an object's attributes
  for (const auto& mapping : checkpoint.mappings) {
    if (mapping.is_optimizer) owned[mapping.place] = true;
  }
  for (PlaceId place = 0; place < places; ++place) {  // a parent comes before what it holds
    const auto& step = checkpoint.places[place];
    const bool around = step.parent != kNoIndex && owned[step.parent];
    if (around || step.kind == StepKind::kAttribute) owned[place] = true;
  }
  const auto count = checkpoint.tensors.size();
  kept_.assign(count, true);
  in_place_.assign(count, false);
  for (TensorId id = 0; id < count; ++id) {
    const auto place = checkpoint.tensors[id].place;
    in_place_[id] = place != kNoIndex && place < places && owned[place];
  }
  if (checkpoint.has_new_root()) {
    bool in_root = false;
    for (TensorId id = 0; id < count; ++id) {
      const auto& row = checkpoint.tensors[id];
      if (!row.has(kIsPart)) in_root = row.state_dict == checkpoint.new_root() || row.place == kNoIndex;
      kept_[id] = in_root;
      if (in_root) in_place_[id] = false;  // a module's tensors, too, are copied from now on
    }
  }
  for (const auto& dict : context.dicts) {
    for (const auto& key : dict.keys) {
      if (key.tensor == kNoIndex || !key.dropped) continue;
      const auto parts = checkpoint.tensors[key.tensor].parts;
      for (TensorId id = key.tensor; id <= key.tensor + parts; ++id) kept_[id] = false;
    }
  }
}

}  // namespace ckpt
