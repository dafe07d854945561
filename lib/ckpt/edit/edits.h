// SPDX-License-Identifier: BSD-3-Clause
// One function per kind of edit, each on the keys of the chosen state dicts. `apply` calls them in order.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/apply.h"
#include "ckpt/edit/plan.h"
#include "ckpt/edit/state_dict_keys.h"

namespace ckpt {

/// What an edit works on: all chosen state dicts at once, since a pattern may match in any of them.
struct EditContext {
  Checkpoint& checkpoint;
  std::vector<EditedStateDict>& dicts;
  PlanReport& report;
  bool allow_unmatched;
  bool makes_root = false;        ///< an edit of the plan makes a state dict the whole file
  bool ties_equal_views = false;  ///< only views of one shape can have the same bytes in the output
};

Status apply_strip(const StripWrappers& edit, EditContext& context);
/// Of `apply_strip`, for the state dict of a whole module that stays one.
void unwrap_modules(const StripWrappers& edit, EditContext& context, EditedStateDict& dict);
Status apply_filter(const FilterKeys& edit, EditContext& context);
Status apply_rename(const RenameKeys& edit, EditContext& context);
Status apply_merge(const MergeTensors& edit, EditContext& context);
Status apply_head(const ReplaceHead& edit, EditContext& context);
Status apply_convert(const Convert& edit, EditContext& context);
/// Of `apply_convert`: the one state dict becomes the root. Errors: kUsage where several are chosen.
Status make_root(EditContext& context);
Status apply_drop_entries(const DropEntries& edit, EditContext& context);

/// Lets the optimizers of the file follow what the edits made of its state dicts, as the plan wants it. After
/// all edits, and after the checkpoint knows of them. Errors: kRefused.
Status settle_optimizers(const Plan& plan, EditContext& context);

/// What is said about the state dict at `root`, begun on first use.
StateDictReport& report_of(PlanReport& report, const std::string& root);

/// kNotFound for a pattern that matches no key of any dict, with the nearest key or a wider pattern.
Status require_match(const NamePattern& pattern, const EditContext& context);

}  // namespace ckpt
