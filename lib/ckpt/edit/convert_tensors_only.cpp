// SPDX-License-Identifier: BSD-3-Clause
// `convert --tensors-only`: of the state dict that is the root now, all goes that is no tensor of its model:
// `_extra_state`, `_metadata`, and the other values of a mixed root.
#include <unordered_set>

#include "ckpt/edit/conversions.h"
#include "ckpt/model/anatomy.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

/// What stands in the mapping beside its entries, and its attributes.
void drop_others(const StateDict& dict, EditContext& context) {
  auto& checkpoint = context.checkpoint;
  std::unordered_set<Use> known;
  for (const auto& entry : dict.entries) known.insert(entry.key);
  Anatomy anatomy;
  dissect(checkpoint.graph(), checkpoint.graph().resolve(dict.mapping), anatomy);
  const auto prefix = context.report.new_root.value_or("");
  for (const auto& item : anatomy.items) {
    if (known.contains(item.key)) continue;
    checkpoint.drop_value(item.pair == kNoUse ? item.key : kNoUse,
                          item.pair == kNoUse ? item.value : item.pair);
    auto path = prefix;
    append_key_step(path, checkpoint.graph().string(item.key).value_or("?"));
    context.report.dropped_entries.push_back(std::move(path));
  }
  for (const auto state : anatomy.states) checkpoint.drop_value(kNoUse, state);
  for (const auto& attribute : attributes(checkpoint.graph(), anatomy.states)) {
    context.report.dropped_entries.push_back(prefix + '@' +
                                             checkpoint.graph().string(attribute.key).value_or("?"));
  }
}

}  // namespace

Status keep_tensors_only(EditContext& context) {
  auto& checkpoint = context.checkpoint;
  checkpoint.drop_metadata();
  for (auto& dict : context.dicts) {
    for (auto& key : dict.keys) {
      if (key.tensor == kNoIndex || key.original.ends_with("_extra_state")) key.dropped = true;
    }
    const auto& state_dict = checkpoint.state_dicts[dict.index];
    if (checkpoint.has_document() && !state_dict.of_module) drop_others(state_dict, context);
  }
  return {};
}

}  // namespace ckpt
