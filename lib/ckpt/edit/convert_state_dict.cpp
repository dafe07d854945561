// SPDX-License-Identifier: BSD-3-Clause
// `convert --state-dict`: one state dict becomes the file, all that stands around it goes.
#include <algorithm>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/edit/edits.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/module_state.h"

namespace ckpt {
namespace {

/// The one that is chosen. Errors: kUsage.
Result<EditedStateDict*> only_one(EditContext& context) {
  auto& dicts = context.dicts;
  if (dicts.size() == 1) return &dicts.front();
  if (dicts.empty()) return Error(ErrorCode::kNotFound, "an edit before drops the state dict");
  std::vector<std::string> roots;
  for (const auto& dict : dicts) roots.push_back(quoted_path(dict.root));
  return Error(ErrorCode::kUsage,
               fmt::format("only one state dict can become the root of the file, which has "
                           "{}: {}",
                           dicts.size(), fmt::join(roots, ", ")))
      .with_hint("name it with --root PATH");
}

template <typename Bits>
StorageId add_number(Checkpoint& checkpoint, Bits bits, Dtype dtype) {
  Bytes bytes;
  append_le(bytes, bits);
  if (takes_turned_bytes(checkpoint, dtype)) swap_byte_order(dtype, bytes);
  return checkpoint.add_storage(DataRef::of_bytes(std::move(bytes)), dtype);
}

/// Numbers that packed layers keep become the tensors that they give.
void make_tensors_of_numbers(Checkpoint& checkpoint, std::uint32_t dict) {
  for (std::uint32_t i = 0; i < checkpoint.state_dicts[dict].entries.size(); ++i) {
    const auto entry = checkpoint.state_dicts[dict].entries[i];
    if (entry.tensor != kNoIndex || entry.key != kNoUse) continue;
    TensorView view;
    if (const auto integer = checkpoint.graph().integer(entry.value)) {
      view.dtype = Dtype::kInt64;
      view.storage = add_number(checkpoint, *integer, view.dtype);
    } else if (const auto floating = checkpoint.graph().floating(entry.value)) {
      view.dtype = Dtype::kFloat32;
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(*floating));
      view.storage = add_number(checkpoint, bits, view.dtype);
    } else {
      continue;
    }
    checkpoint.replace(dict, i, view);
  }
}

}  // namespace

Status make_root(EditContext& context) {
  CKPT_ASSIGN_OR_RETURN(auto* dict, only_one(context));
  auto& checkpoint = context.checkpoint;
  const auto& chosen = checkpoint.state_dicts[dict->index];
  const bool stands_there = chosen.place == kNoIndex || checkpoint.path(chosen.place).empty();
  if (checkpoint.has_new_root() || (stands_there && !chosen.of_module)) {
    if (!checkpoint.has_new_root()) context.report.notes.emplace_back("the root is the state dict already");
    return {};
  }
  auto& report = context.report;
  if (chosen.of_module && !holds_script(checkpoint.format)) {
    CKPT_ASSIGN_OR_RETURN(const auto state, read_module_state(checkpoint, dict->index));
    report.notes.insert(report.notes.end(), state.notes.begin(), state.notes.end());
    make_tensors_of_numbers(checkpoint, dict->index);
  }
  for (auto& path : checkpoint.paths_around(chosen.place)) {
    const bool is_gone = std::any_of(report.dropped_entries.begin(), report.dropped_entries.end(),
                                     [&](const auto& above) { return lies_below(path, above); });
    if (!is_gone) report.dropped_entries.push_back(std::move(path));
  }
  checkpoint.set_root(dict->index);
  report_of(report, dict->root).root.clear();
  report.new_root = std::exchange(dict->root, "");
  return {};
}

}  // namespace ckpt
