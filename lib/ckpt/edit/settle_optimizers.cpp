// SPDX-License-Identifier: BSD-3-Clause
// The last step of a plan: what became of the parameters is done to the optimizers that trained them. A
// parameter that is gone takes its index and its state along, and the others are counted anew; one of another
// shape loses its state; names that the optimizer keeps follow the keys.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/optimizer_fates.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/parameter_roles.h"

namespace ckpt {
namespace {

/// By state dict: did a tensor that may be a parameter go, or change its shape?
std::vector<bool> find_losses(const Checkpoint& checkpoint) {
  std::vector<bool> losses(checkpoint.state_dicts.size());
  if (!checkpoint.tensors_change()) return losses;
  for (std::uint32_t dict = 0; dict < losses.size(); ++dict) {
    const auto& entries = checkpoint.state_dicts[dict].entries;
    for (std::uint32_t i = 0; i < entries.size() && !losses[dict]; ++i) {
      const auto tensor = entries[i].tensor;
      if (tensor == kNoIndex) continue;
      const auto& row = checkpoint.original(tensor);
      const bool changed = checkpoint.is_dropped(dict, i) || loses_state(checkpoint, tensor);
      losses[dict] = changed && row.place != kNoIndex && role_of(checkpoint, row).kind != RoleKind::kBuffer;
    }
  }
  return losses;
}

class OptimizerEdit {
 public:
  /// `losses`: by state dict, see above.
  OptimizerEdit(const Plan& plan, Checkpoint& checkpoint, std::uint32_t mapping,
                const std::vector<bool>& losses)
      : checkpoint_(checkpoint),
        mapping_(mapping),
        place_(checkpoint.mappings[mapping].place),
        candidates_(state_dicts_beside(checkpoint, place_)) {
    report_.path = checkpoint.path(place_);
    rules_.may_assume = plan.optimizer == OptimizerPolicy::kRemapModelOrder;
    rules_.strips_wrappers = std::any_of(plan.edits.begin(), plan.edits.end(), [](const Edit& edit) {
      return std::holds_alternative<StripWrappers>(edit);
    });
    const auto lost = [&](std::uint32_t dict) { return losses[dict]; };
    has_losses_ = candidates_.empty() ? std::find(losses.begin(), losses.end(), true) != losses.end()
                                      : std::any_of(candidates_.begin(), candidates_.end(), lost);
  }

  /// Errors: kRefused where parameters went and it can't follow.
  Status run() {
    auto state = read_optimizer_state(checkpoint_, mapping_);
    if (state.ok() && state->slots.empty()) return {};
    if (!has_losses_) {
      if (state.ok()) follow_names(*state);
      return {};
    }
    if (candidates_.empty()) return cannot_follow(report_.path, "no state dict of a model stands beside it");
    if (!state.ok()) {
      return cannot_follow(report_.path, "its layout is not that of PyTorch: " + state.error().message());
    }
    CKPT_ASSIGN_OR_RETURN(const auto found, find_fates(checkpoint_, *state, candidates_, rules_));
    report_.root = checkpoint_.path(checkpoint_.state_dicts[found.state_dict].place);
    report_.evidence = found.evidence;
    carry_out(*state, found.fates);
    return {};
  }

  const OptimizerReport& report() const { return report_; }

  const std::vector<std::string>& notes() const { return notes_; }

 private:
  /// Where no parameter went, names that are keys follow them; others stay.
  void follow_names(const OptimizerState& state) {
    if (!state.has_names) return;
    std::vector<std::vector<std::uint32_t>> named;
    for (const auto dict : candidates_) named.push_back(entries_by_name(checkpoint_, state, dict));
    for (std::size_t i = 0; i < state.slots.size(); ++i) {
      std::optional<std::string> name;
      bool agree = true;
      for (std::size_t c = 0; c < candidates_.size(); ++c) {
        if (named[c][i] == kNoIndex) continue;
        const auto key = new_name(checkpoint_, state.slots[i], candidates_[c], named[c][i], rules_)
                             .value_or(checkpoint_.graph().string(state.slots[i].name).value_or(""));
        agree = agree && (!name || name == key);
        name = key;
        report_.root = checkpoint_.path(checkpoint_.state_dicts[candidates_[c]].place);
      }
      if (agree && name && name != checkpoint_.graph().string(state.slots[i].name))
        rename(state.slots[i], *name);
    }
    report_.parameters_before = report_.parameters_after = state.slots.size();
  }

  void rename(const OptimizerSlot& slot, const std::string& name) {
    checkpoint_.replace_value(slot.name, name);
    if (slot.is_keyed_by_name() && slot.state_key != kNoUse) checkpoint_.replace_value(slot.state_key, name);
    ++report_.renamed;
  }

  void drop_state(const OptimizerSlot& slot) {
    if (slot.state_value == kNoUse) return;
    if (slot.state_pair != kNoUse) return checkpoint_.drop_value(kNoUse, slot.state_pair);
    checkpoint_.drop_value(slot.state_key, slot.state_value);
  }

  void carry_out(const OptimizerState& state, const std::vector<Fate>& fates) {
    std::int64_t next = 0;
    for (std::size_t i = 0; i < fates.size(); ++i) {
      const auto& slot = state.slots[i];
      const auto& fate = fates[i];
      if (fate.is_gone || fate.is_reset) {
        (fate.is_gone ? report_.dropped : report_.reset).push_back(fate.key);
        drop_state(slot);
      }
      if (fate.is_gone) {
        checkpoint_.drop_value(kNoUse, slot.use);
        if (slot.name != kNoUse && !slot.is_keyed_by_name()) checkpoint_.drop_value(kNoUse, slot.name);
        continue;
      }
      if (state.counts_up) recount(slot, next++, fate.is_reset);
      if (fate.name) rename(slot, *fate.name);
    }
    note_empty_groups(state, fates);
    report_.parameters_before = fates.size();
    report_.parameters_after = fates.size() - report_.dropped.size();
  }

  /// Groups stay, as schedulers count them.
  void note_empty_groups(const OptimizerState& state, const std::vector<Fate>& fates) {
    std::vector<bool> had(state.groups);
    std::vector<bool> has(state.groups);
    for (std::size_t i = 0; i < fates.size(); ++i) {
      had[state.slots[i].group] = true;
      if (!fates[i].is_gone) has[state.slots[i].group] = true;
    }
    for (std::size_t group = 0; group < had.size(); ++group) {
      if (had[group] && !has[group])
        notes_.push_back(fmt::format("group {} of the optimizer state at {} is left without parameters",
                                     group, quoted_path(report_.path)));
    }
  }

  void recount(const OptimizerSlot& slot, std::int64_t index, bool is_reset) {
    if (slot.index == index) return;
    checkpoint_.replace_value(slot.use, index);
    if (slot.state_key != kNoUse && !is_reset) checkpoint_.replace_value(slot.state_key, index);
  }

  Checkpoint& checkpoint_;
  std::uint32_t mapping_;
  PlaceId place_;
  std::vector<std::uint32_t> candidates_;
  FateRules rules_;
  bool has_losses_ = false;  ///< of parameters that it may count
  OptimizerReport report_;
  std::vector<std::string> notes_;
};

/// Is what stands at `path` dropped already, or something around it?
bool is_dropped(const std::string& path, const PlanReport& report) {
  return std::any_of(report.dropped_entries.begin(), report.dropped_entries.end(),
                     [&](const auto& above) { return lies_below(path, above); });
}

}  // namespace

Status settle_optimizers(const Plan& plan, EditContext& context) {
  auto& checkpoint = context.checkpoint;
  if (plan.optimizer == OptimizerPolicy::kKeep) return {};
  if (checkpoint.has_new_root()) return {};  // they went with what stood around it
  const auto losses = find_losses(checkpoint);
  for (const auto mapping : optimizers_of(checkpoint)) {
    const auto path = checkpoint.path(checkpoint.mappings[mapping].place);
    if (is_dropped(path, context.report)) continue;
    if (plan.optimizer == OptimizerPolicy::kDrop) {
      CKPT_RETURN_IF_ERROR(apply_drop_entries({{path}}, context));
      continue;
    }
    OptimizerEdit edit(plan, checkpoint, mapping, losses);
    CKPT_RETURN_IF_ERROR(edit.run());
    if (edit.report().evidence != OrderEvidence::kNothing || !edit.report().changes_nothing())
      context.report.optimizers.push_back(edit.report());
    auto& notes = context.report.notes;
    notes.insert(notes.end(), edit.notes().begin(), edit.notes().end());
  }
  return {};
}

}  // namespace ckpt
