// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/apply.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/lookup.h"
#include "ckpt/model/optimizer_state.h"
#include "ckpt/model/state_dicts.h"
#include "ckpt/model/ties.h"

namespace ckpt {
namespace {

/// Does a state dict become the whole file?
bool makes_root(const Edit& edit) {
  const auto* convert = std::get_if<Convert>(&edit);
  return convert != nullptr && (convert->state_dict || convert->tensors_only);
}

bool edits_state_dicts(const Plan& plan) {
  return std::any_of(plan.edits.begin(), plan.edits.end(), [](const Edit& edit) {
    if (const auto* convert = std::get_if<Convert>(&edit))
      return makes_root(edit) || !convert->dtypes.empty();
    return !std::holds_alternative<DropEntries>(edit);
  });
}

/// Does a key come, go or get another name? Else only values do. (Wrappers go with the objects themselves.)
bool edits_keys(const Edit& edit) {
  if (std::holds_alternative<DropEntries>(edit) || std::holds_alternative<Convert>(edit)) return false;
  if (std::holds_alternative<StripWrappers>(edit)) return false;
  if (const auto* head = std::get_if<ReplaceHead>(&edit)) return head->rename || head->no_bias;
  const auto* merge = std::get_if<MergeTensors>(&edit);
  return merge == nullptr || merge->keys == MergeTensors::Keys::kUnion ||
         merge->keys == MergeTensors::Keys::kIntersection;
}

Error script_keys_are_fixed() {
  return Error(
             ErrorCode::kUnsupported,
             "the keys of a TorchScript archive are attributes that its code names: they can't be edited in "
             "place")
      .with_hint("convert it with 'ckpt convert --to torch' and edit that file");
}

/// A whole module's keys are attributes of objects. Beside state dicts it is carried; alone, or named by
/// --root, it is refused.
Status set_modules_aside(const Checkpoint& checkpoint, const Plan& plan, std::vector<std::uint32_t>& chosen,
                         PlanReport& report) {
  const bool is_script = holds_script(checkpoint.format);  // where mappings are attributes, too
  const auto is_module = [&](std::uint32_t index) {
    return is_script || checkpoint.state_dicts[index].of_module;
  };
  const auto touches_keys = [&](const Edit& edit) {
    return edits_keys(edit) || (is_script && std::holds_alternative<StripWrappers>(edit));
  };
  if (std::none_of(plan.edits.begin(), plan.edits.end(), touches_keys)) return {};
  if (std::any_of(plan.edits.begin(), plan.edits.end(), makes_root)) return {};  // a state dict comes of it
  const auto first = std::find_if(chosen.begin(), chosen.end(), is_module);
  if (first == chosen.end()) return {};
  const auto describe = [&](std::uint32_t index) {
    return quoted_path(checkpoint.path(checkpoint.state_dicts[index].place));
  };
  if (is_script) return script_keys_are_fixed();
  if (!plan.roots.empty() || std::all_of(chosen.begin(), chosen.end(), is_module)) {
    return Error(ErrorCode::kUnsupported, fmt::format("a whole module stands at {}: its keys are attributes "
                                                      "of objects and can't be edited in place",
                                                      describe(*first)))
        .with_hint("get its state dict: ckpt convert --state-dict FILE -o params.pt");
  }
  for (const auto index : chosen) {
    if (is_module(index))
      report.notes.push_back(fmt::format("the whole module at {} is carried as it is", describe(index)));
  }
  std::erase_if(chosen, is_module);
  return {};
}

/// After `store_keys`.
void fill_report(const Checkpoint& checkpoint, const EditedStateDict& dict, StateDictReport& report) {
  report.keys_before = dict.keys_before;
  report.bytes_before = dict.bytes_before;
  for (const auto& key : dict.keys) {
    if (key.dropped) {
      report.dropped.emplace_back(key.original);
      continue;
    }
    ++report.keys_after;
    if (key.tensor != kNoIndex) {
      ++report.tensors_after;
      report.bytes_after += checkpoint.bytes(checkpoint.tensors[key.tensor]);
    }
    const auto change = checkpoint.changes().find({dict.index, key.entry});
    if (change != checkpoint.changes().end()) report.renamed.emplace_back(key.original, change->second.name);
  }
}

/// After a merge, what optimizers know is about the values that are gone.
void note_old_values(EditContext& context) {
  const auto& dicts = context.report.state_dicts;
  const bool taken =
      !context.report.merges.empty() ||
      std::any_of(dicts.begin(), dicts.end(), [](const auto& dict) { return !dict.taken.empty(); });
  if (!taken) return;
  const auto& checkpoint = context.checkpoint;
  if (checkpoint.has_new_root()) return;
  for (const auto optimizer : optimizers_of(checkpoint)) {
    context.report.notes.push_back(
        fmt::format("the optimizer state at {} stays and belongs to the old values",
                    quoted_path(checkpoint.path(checkpoint.mappings[optimizer].place))));
  }
}

/// The code of a TorchScript archive may name what its tensors were.
void note_script_code(EditContext& context) {
  const auto& checkpoint = context.checkpoint;
  if (checkpoint.format != FormatId::kTorchScript) return;
  std::uint64_t count = 0;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& now = checkpoint.tensors[id];
    const auto& before = checkpoint.original(id);
    if (!now.has(kReplaced) && !now.has(kRelocated)) continue;
    const bool same = std::ranges::equal(checkpoint.shape(now), checkpoint.shape(before));
    if (!same || now.dtype != before.dtype) ++count;
  }
  const auto behind = left_behind(checkpoint);
  if (!behind.empty()) {
    context.report.notes.push_back(
        fmt::format("{} outside the state dict {} old bytes of a replaced one: {}{}",
                    counted(behind.size(), "tensor"), behind.size() == 1 ? "keeps" : "keep",
                    quoted_path(checkpoint.path(checkpoint.tensors[behind.front()].place)),
                    behind.size() > 1 ? " and others" : ""));
  }
  if (count == 0) return;
  context.report.notes.push_back(
      fmt::format("{} {} another shape or dtype; the code stays as it is, and where it names the old one (a "
                  "constant like out_features, traced code) it still does",
                  counted(count, "tensor"), count == 1 ? "has" : "have"));
}

/// A key of a state dict goes as by filter-keys, so that optimizers follow. False where `key` is none.
bool drop_key(Use key, EditContext& context) {
  auto& dicts = context.checkpoint.state_dicts;
  for (std::uint32_t dict = 0; dict < dicts.size(); ++dict) {
    const auto& entries = dicts[dict].entries;
    const auto found = std::ranges::find(entries, key, &StateDictEntry::key);
    if (found == entries.end() || dicts[dict].of_module) continue;
    const auto entry = static_cast<std::uint32_t>(found - entries.begin());
    context.checkpoint.drop(dict, entry);
    for (auto& edited : context.dicts) {
      for (auto& one : edited.keys) one.dropped = one.dropped || (edited.index == dict && one.entry == entry);
    }
    return true;
  }
  return false;
}

/// Which of several edits it was.
Error in_edit(const Edit& edit, const Plan& plan, Error error) {
  if (plan.edits.size() == 1) return error;
  auto message = fmt::format("edit {} of {} ({}): {}", &edit - plan.edits.data() + 1, plan.edits.size(),
                             edit_name(edit), error.message());
  return Error(error.code(), std::move(message)).with_hint(error.hint());
}

}  // namespace

StateDictReport& report_of(PlanReport& report, const std::string& root) {
  for (auto& dict : report.state_dicts) {
    if (dict.root == root) return dict;
  }
  report.state_dicts.push_back({});
  report.state_dicts.back().root = root;
  return report.state_dicts.back();
}

bool PlanReport::changes_nothing() const {
  return dropped_entries.empty() && merges.empty() && !new_root &&
         (!conversion || conversion->changes_nothing()) &&
         std::all_of(optimizers.begin(), optimizers.end(),
                     [](const OptimizerReport& optimizer) { return optimizer.changes_nothing(); }) &&
         std::all_of(state_dicts.begin(), state_dicts.end(), [](const StateDictReport& dict) {
           return dict.renamed.empty() && dict.dropped.empty() && dict.added.empty() && dict.taken.empty() &&
                  dict.heads.empty();
         });
}

Status apply_drop_entries(const DropEntries& edit, EditContext& context) {
  if (holds_script(context.checkpoint.format)) return script_keys_are_fixed();
  // paths lead from the root as the edits before left it
  const bool new_root = context.checkpoint.has_new_root();
  const auto dropped_before = new_root ? std::vector<std::string>() : context.report.dropped_entries;
  for (const auto& path : edit.paths) {
    const auto gone = std::find_if(dropped_before.begin(), dropped_before.end(),
                                   [&](const auto& above) { return lies_below(path, above); });
    if (gone != dropped_before.end()) {
      if (context.allow_unmatched) continue;
      return Error(ErrorCode::kNotFound,
                   fmt::format("{} is gone: an edit before drops {}", quoted(path), quoted(*gone)));
    }
    auto found = find_value(context.checkpoint, path);
    if (!found.ok()) {
      if (context.allow_unmatched && found.error().code() == ErrorCode::kNotFound) continue;
      return std::move(found).error();
    }
    const bool item = found->key != kNoUse || found->in_list;
    if (!item) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("{} is no item of a mapping or a list, so it can't be dropped", quoted(path)));
    }
    if (found->key != kNoUse && drop_key(found->key, context)) {
      // its optimizer follows
    } else if (found->pair != kNoUse) {
      context.checkpoint.drop_value(kNoUse, found->pair);
    } else {
      context.checkpoint.drop_value(found->key, found->value);
    }
    context.report.dropped_entries.push_back(path);
  }
  std::erase_if(context.dicts, [&](const EditedStateDict& dict) {
    const auto& dropped = context.report.dropped_entries;
    return std::any_of(dropped.begin(), dropped.end(),
                       [&](const auto& above) { return lies_below(dict.root, above); });
  });
  return {};
}

Result<PlanReport> apply_plan(const Plan& plan, Checkpoint& checkpoint) {
  PlanReport report;
  std::vector<EditedStateDict> dicts;
  if (edits_state_dicts(plan)) {
    CKPT_ASSIGN_OR_RETURN(auto chosen, choose_state_dicts(checkpoint, plan.roots));
    CKPT_RETURN_IF_ERROR(set_modules_aside(checkpoint, plan, chosen, report));
    for (const auto index : chosen) {
      add_tied_keys(checkpoint, index);
      dicts.push_back(load_keys(checkpoint, index));
    }
  }
  const bool root = std::any_of(plan.edits.begin(), plan.edits.end(), makes_root);
  const auto output = plan.target.format.value_or(checkpoint.format);
  EditContext context{checkpoint,           dicts, report,
                      plan.allow_unmatched, root,  output == FormatId::kSafetensors};

  struct Apply {
    EditContext& context;

    Status operator()(const StripWrappers& edit) const { return apply_strip(edit, context); }

    Status operator()(const FilterKeys& edit) const { return apply_filter(edit, context); }

    Status operator()(const RenameKeys& edit) const { return apply_rename(edit, context); }

    Status operator()(const MergeTensors& edit) const { return apply_merge(edit, context); }

    Status operator()(const ReplaceHead& edit) const { return apply_head(edit, context); }

    Status operator()(const DropEntries& edit) const { return apply_drop_entries(edit, context); }

    Status operator()(const Convert& edit) const { return apply_convert(edit, context); }
  };

  for (const auto& edit : plan.edits) {
    auto status = std::visit(Apply{context}, edit);
    const bool is_last = &edit == &plan.edits.back();  // whose keys are checked as they are stored
    for (auto dict = dicts.begin(); !is_last && status.ok() && dict != dicts.end(); ++dict)
      status = check_keys(*dict, checkpoint);
    if (!status.ok()) return in_edit(edit, plan, std::move(status).error());
  }
  note_old_values(context);
  note_script_code(context);
  for (auto& dict : dicts) {
    CKPT_RETURN_IF_ERROR(store_keys(dict, checkpoint));
    fill_report(checkpoint, dict, report_of(report, dict.root));
  }
  CKPT_RETURN_IF_ERROR(settle_optimizers(plan, context));
  return report;
}

Result<std::vector<ReferenceKey>> reference_keys(Checkpoint& reference,
                                                 const std::optional<std::string>& root) {
  std::vector<std::string> roots;
  if (root) roots.push_back(*root);
  CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(reference, roots));
  if (chosen.size() > 1) {
    std::vector<std::string> paths;
    for (const auto index : chosen)
      paths.push_back(quoted_path(reference.path(reference.state_dicts[index].place)));
    return Error(ErrorCode::kUsage,
                 fmt::format("the reference has {} state dicts: {}", chosen.size(), fmt::join(paths, ", ")))
        .with_hint("name one with --like-root PATH");
  }
  std::vector<ReferenceKey> keys;
  const auto index = chosen.front();
  add_tied_keys(reference, index);
  const auto& dict = reference.state_dicts[index];
  for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
    ReferenceKey key;
    key.name = reference.original_name(index, i);
    key.is_tensor = dict.entries[i].tensor != kNoIndex;
    if (key.is_tensor) {
      const auto shape = reference.shape(reference.tensors[dict.entries[i].tensor]);
      key.shape.assign(shape.begin(), shape.end());
    }
    keys.push_back(std::move(key));
  }
  return keys;
}

}  // namespace ckpt
