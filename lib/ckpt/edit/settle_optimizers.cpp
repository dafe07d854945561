// SPDX-License-Identifier: BSD-3-Clause
// The last step of a plan: what became of the parameters is done to the optimizers that trained them. A
// parameter that is gone takes its index and its state along, and the others are counted anew; one of another
// shape loses its state; names that the optimizer keeps follow the keys.
#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/parameter_roles.h"

namespace ckpt {
namespace {

bool has_new_shape(const Checkpoint& checkpoint, TensorId tensor) {
  const auto& row = checkpoint.tensors[tensor];
  return row.has(kReplaced) &&
         !std::ranges::equal(checkpoint.shape(row), checkpoint.shape(checkpoint.original(tensor)));
}

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
      const bool changed = checkpoint.is_dropped(dict, i) || has_new_shape(checkpoint, tensor);
      losses[dict] = changed && row.place != kNoIndex && role_of(checkpoint, row).kind != RoleKind::kBuffer;
    }
  }
  return losses;
}

/// What becomes of one index.
struct Fate {
  std::string key;  ///< of its parameter, in the file
  bool is_gone = false;
  bool is_reset = false;
  std::optional<std::string> name;  ///< the new one, if it has another
  std::uint32_t before = 0;         ///< where its parameter stands among the keys
  std::uint32_t after = 0;          ///< the same with those that are left

  bool is_like(const Fate& other) const {
    return is_gone == other.is_gone && is_reset == other.is_reset && name == other.name;
  }
};

class OptimizerEdit {
 public:
  /// `losses`: by state dict, see above.
  OptimizerEdit(const Plan& plan, Checkpoint& checkpoint, std::uint32_t mapping,
                const std::vector<bool>& losses)
      : plan_(plan),
        checkpoint_(checkpoint),
        mapping_(mapping),
        place_(checkpoint.mappings[mapping].place),
        candidates_(state_dicts_beside(checkpoint, place_)) {
    report_.path = checkpoint.path(place_);
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
    if (candidates_.empty()) return refusal("no state dict of a model stands beside it");
    if (!state.ok()) return refusal("its layout is not that of PyTorch: " + state.error().message());
    CKPT_ASSIGN_OR_RETURN(const auto fates, find_fates(*state));
    carry_out(*state, fates);
    return {};
  }

  const OptimizerReport& report() const { return report_; }

  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Error refusal(std::string_view why, bool may_assume = false) const {
    std::string hint =
        "say what becomes of it: drop takes it away; keep leaves it as it is, unfit for the model";
    if (may_assume) hint += "; remap=model-order takes the parameters to be in the order of the keys";
    for (const auto* choice : {"drop", "keep"}) hint += fmt::format("\n{} --optimizer {}", kRepeat, choice);
    if (may_assume) hint += fmt::format("\n{} --optimizer remap=model-order", kRepeat);
    return Error(ErrorCode::kRefused,
                 fmt::format("parameters go or change, and the optimizer state at {} can't follow: {}",
                             quoted_path(report_.path), why))
        .with_hint(hint);
  }

  std::string dict_path(std::uint32_t dict) const {
    return quoted_path(checkpoint_.path(checkpoint_.state_dicts[dict].place));
  }

  /// Of the state dicts that it may belong to, those with the best evidence count. They have to agree.
  Result<std::vector<Fate>> find_fates(const OptimizerState& state) {
    std::vector<std::pair<std::uint32_t, ParameterOrder>> best;
    for (const auto dict : candidates_) {
      auto order = find_parameter_order(checkpoint_, state, dict);
      if (!best.empty() && order.evidence < best.front().second.evidence) continue;
      if (!best.empty() && order.evidence > best.front().second.evidence) best.clear();
      best.emplace_back(dict, std::move(order));
    }
    const auto& [first, order] = best.front();
    const bool is_assumed = order.evidence == OrderEvidence::kAssumed;
    const bool may_assume = plan_.optimizer == OptimizerPolicy::kRemapModelOrder;
    if (order.evidence == OrderEvidence::kNothing || (is_assumed && !may_assume))
      return refusal("it is not proven which parameter is which: " + order.disagreement, is_assumed);
    CKPT_ASSIGN_OR_RETURN(auto fates, fates_in(state, first, order));
    for (const auto& [other, its_order] : best) {
      if (other == first) continue;
      CKPT_ASSIGN_OR_RETURN(const auto its_fates, fates_in(state, other, its_order));
      if (std::ranges::equal(fates, its_fates, &Fate::is_like)) continue;
      return refusal(fmt::format("it may belong to the state dict at {} or to that at {}", dict_path(first),
                                 dict_path(other)));
    }
    report_.root = checkpoint_.path(checkpoint_.state_dicts[first].place);
    report_.evidence = order.evidence;
    return fates;
  }

  Result<std::vector<Fate>> fates_in(const OptimizerState& state, std::uint32_t dict,
                                     const ParameterOrder& order) const {
    std::vector<Fate> fates;
    std::vector<std::uint32_t> named;
    if (state.has_names) named = entries_by_name(checkpoint_, state, dict);
    for (std::size_t i = 0; i < state.slots.size(); ++i) {
      CKPT_ASSIGN_OR_RETURN(auto fate, fate_of(state.slots[i], dict, order.entries[i]));
      if (state.has_names && !fate.is_gone) {
        fate.name = checkpoint_.is_dropped(dict, named[i])
                        ? checkpoint_.name(dict, fate.after)  // a key that is tied to it
                        : new_name(state.slots[i], dict, named[i]);
      }
      fates.push_back(std::move(fate));
    }
    CKPT_RETURN_IF_ERROR(check_order(state, fates));
    return fates;
  }

  /// `entries`: the keys of its parameter.
  Result<Fate> fate_of(const OptimizerSlot& slot, std::uint32_t dict,
                       const std::vector<std::uint32_t>& entries) const {
    Fate fate;
    fate.key = checkpoint_.original_name(dict, entries.front());
    fate.before = entries.front();
    std::vector<std::uint32_t> left;
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(left),
                 [&](auto entry) { return !checkpoint_.is_dropped(dict, entry); });
    fate.is_gone = left.empty();
    if (fate.is_gone) return fate;
    fate.after = left.front();
    const auto tensor_of = [&](std::uint32_t entry) {
      return checkpoint_.state_dicts[dict].entries[entry].tensor;
    };
    const auto shape_of = [&](std::uint32_t entry) {
      return checkpoint_.shape(checkpoint_.tensors[tensor_of(entry)]);
    };
    fate.is_reset = has_new_shape(checkpoint_, tensor_of(left.front()));
    for (const auto entry : left) {
      if (std::ranges::equal(shape_of(entry), shape_of(left.front()))) continue;
      return refusal(fmt::format("index {} is {}, and its keys {} and {} no longer have one shape",
                                 slot.index, quoted(fate.key),
                                 quoted(checkpoint_.original_name(dict, left.front())),
                                 quoted(checkpoint_.original_name(dict, entry))));
    }
    return fate;
  }

  /// A parameter under two keys that loses the first one is met later in the model: behind others perhaps.
  Status check_order(const OptimizerState& state, const std::vector<Fate>& fates) const {
    const auto moved = std::find_if(fates.begin(), fates.end(), [](const Fate& fate) {
      return !fate.is_gone && fate.after != fate.before;
    });
    if (moved == fates.end()) return {};
    std::vector<std::size_t> slots;  // those that are left, group by group as the keys stood in the file
    for (std::size_t i = 0; i < fates.size(); ++i) {
      if (!fates[i].is_gone) slots.push_back(i);
    }
    const auto place = [&](std::size_t i) { return std::pair(state.slots[i].group, fates[i].before); };
    std::sort(slots.begin(), slots.end(), [&](auto a, auto b) { return place(a) < place(b); });
    for (std::size_t i = 0; i + 1 < slots.size(); ++i) {
      const bool one_group = state.slots[slots[i]].group == state.slots[slots[i + 1]].group;
      if (!one_group || fates[slots[i]].after < fates[slots[i + 1]].after) continue;
      return refusal(fmt::format("of the tied keys of index {}, {} goes, and what is left stands behind {}",
                                 state.slots[slots[i]].index, quoted(fates[slots[i]].key),
                                 quoted(fates[slots[i + 1]].key)));
    }
    return {};
  }

  bool strips() const {
    return std::any_of(plan_.edits.begin(), plan_.edits.end(),
                       [](const Edit& edit) { return std::holds_alternative<StripWrappers>(edit); });
  }

  /// The key that a name means, where that is another text now. One that differed from its
  /// key by a wrapper's name follows when the key is renamed, and when wrappers are stripped.
  std::optional<std::string> new_name(const OptimizerSlot& slot, std::uint32_t dict,
                                      std::uint32_t entry) const {
    auto key = checkpoint_.name(dict, entry);
    const auto original = checkpoint_.original_name(dict, entry);
    const auto old = checkpoint_.graph().string(slot.name);
    if (key == old || (key == original && old != original && !strips())) return std::nullopt;
    return key;
  }

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
        const auto key = new_name(state.slots[i], candidates_[c], named[c][i])
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

  const Plan& plan_;
  Checkpoint& checkpoint_;
  std::uint32_t mapping_;
  PlaceId place_;
  std::vector<std::uint32_t> candidates_;
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
