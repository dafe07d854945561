// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/optimizer_fates.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/apply.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

class FateFinder {
 public:
  FateFinder(const Checkpoint& checkpoint, const OptimizerState& optimizer, FateRules rules)
      : checkpoint_(checkpoint), optimizer_(optimizer), rules_(rules) {}

  /// Where several state dicts have the best evidence, they have to agree.
  Result<OptimizerFates> find(const std::vector<std::uint32_t>& state_dicts) const {
    std::vector<std::pair<std::uint32_t, ParameterOrder>> best;
    for (const auto dict : state_dicts) {
      auto order = find_parameter_order(checkpoint_, optimizer_, dict);
      if (!best.empty() && order.evidence < best.front().second.evidence) continue;
      if (!best.empty() && order.evidence > best.front().second.evidence) best.clear();
      best.emplace_back(dict, std::move(order));
    }
    const auto& [first, order] = best.front();
    const bool is_assumed = order.evidence == OrderEvidence::kAssumed;
    if (order.evidence == OrderEvidence::kNothing || (is_assumed && !rules_.may_assume))
      return refusal("it is not proven which parameter is which: " + order.disagreement, is_assumed);
    CKPT_ASSIGN_OR_RETURN(auto fates, fates_in(first, order));
    for (const auto& [other, its_order] : best) {
      if (other == first) continue;
      CKPT_ASSIGN_OR_RETURN(const auto its_fates, fates_in(other, its_order));
      if (std::ranges::equal(fates, its_fates, &Fate::is_like)) continue;
      return refusal(fmt::format("it may belong to the state dict at {} or to that at {}", dict_path(first),
                                 dict_path(other)));
    }
    return OptimizerFates{first, order.evidence, std::move(fates)};
  }

 private:
  Error refusal(std::string_view why, bool could_assume = false) const {
    return cannot_follow(checkpoint_.path(optimizer_.place), why, could_assume);
  }

  std::string dict_path(std::uint32_t dict) const {
    return quoted_path(checkpoint_.path(checkpoint_.state_dicts[dict].place));
  }

  Result<std::vector<Fate>> fates_in(std::uint32_t dict, const ParameterOrder& order) const {
    std::vector<Fate> fates;
    std::vector<std::uint32_t> named;
    if (optimizer_.has_names) named = entries_by_name(checkpoint_, optimizer_, dict);
    for (std::size_t i = 0; i < optimizer_.slots.size(); ++i) {
      CKPT_ASSIGN_OR_RETURN(auto fate, fate_of(optimizer_.slots[i], dict, order.entries[i]));
      if (optimizer_.has_names && !fate.is_gone) {
        fate.name = checkpoint_.is_dropped(dict, named[i])
                        ? checkpoint_.name(dict, fate.after)  // a key that is tied to it
                        : new_name(checkpoint_, optimizer_.slots[i], dict, named[i], rules_);
      }
      fates.push_back(std::move(fate));
    }
    CKPT_RETURN_IF_ERROR(check_order(fates));
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
    fate.is_reset = loses_state(checkpoint_, tensor_of(left.front()));
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
  Status check_order(const std::vector<Fate>& fates) const {
    const auto moved = std::find_if(fates.begin(), fates.end(), [](const Fate& fate) {
      return !fate.is_gone && fate.after != fate.before;
    });
    if (moved == fates.end()) return {};
    std::vector<std::size_t> slots;  // those that are left, group by group as the keys stood in the file
    for (std::size_t i = 0; i < fates.size(); ++i) {
      if (!fates[i].is_gone) slots.push_back(i);
    }
    const auto place = [&](std::size_t i) { return std::pair(optimizer_.slots[i].group, fates[i].before); };
    std::sort(slots.begin(), slots.end(), [&](auto a, auto b) { return place(a) < place(b); });
    for (std::size_t i = 0; i + 1 < slots.size(); ++i) {
      const bool one_group = optimizer_.slots[slots[i]].group == optimizer_.slots[slots[i + 1]].group;
      if (!one_group || fates[slots[i]].after < fates[slots[i + 1]].after) continue;
      return refusal(fmt::format("of the tied keys of index {}, {} goes, and what is left stands behind {}",
                                 optimizer_.slots[slots[i]].index, quoted(fates[slots[i]].key),
                                 quoted(fates[slots[i + 1]].key)));
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const OptimizerState& optimizer_;
  FateRules rules_;
};

}  // namespace

Result<OptimizerFates> find_fates(const Checkpoint& checkpoint, const OptimizerState& optimizer,
                                  const std::vector<std::uint32_t>& state_dicts, FateRules rules) {
  return FateFinder(checkpoint, optimizer, rules).find(state_dicts);
}

std::optional<std::string> new_name(const Checkpoint& checkpoint, const OptimizerSlot& slot,
                                    std::uint32_t state_dict, std::uint32_t entry, FateRules rules) {
  auto key = checkpoint.name(state_dict, entry);
  const auto original = checkpoint.original_name(state_dict, entry);
  const auto old = checkpoint.graph().string(slot.name);
  const bool is_asked_for = key != original || old == original || rules.strips_wrappers;
  if (key == old || !is_asked_for) return std::nullopt;
  return key;
}

bool loses_state(const Checkpoint& checkpoint, TensorId tensor) {
  const auto& row = checkpoint.tensors[tensor];
  if (!row.has(kReplaced)) return false;
  return row.has(kMadeAnew) ||
         !std::ranges::equal(checkpoint.shape(row), checkpoint.shape(checkpoint.original(tensor)));
}

Error cannot_follow(std::string_view path, std::string_view why, bool could_assume) {
  std::string hint =
      "say what becomes of it: drop takes it away; keep leaves it as it is, unfit for the model";
  if (could_assume) hint += "; remap=model-order takes the parameters to be in the order of the keys";
  for (const auto* choice : {"drop", "keep"}) hint += fmt::format("\n{} --optimizer {}", kRepeat, choice);
  if (could_assume) hint += fmt::format("\n{} --optimizer remap=model-order", kRepeat);
  return Error(ErrorCode::kRefused,
               fmt::format("parameters go or change, and the optimizer state at {} can't follow: {}",
                           quoted_path(path), why))
      .with_hint(hint);
}

}  // namespace ckpt
