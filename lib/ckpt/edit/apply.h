// SPDX-License-Identifier: BSD-3-Clause
// Plan × Checkpoint → the same checkpoint with its mutators called, and a report of what changed. All
// mistakes are found here, before anything is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/edit/cast_report.h"
#include "ckpt/edit/conversion_report.h"
#include "ckpt/edit/merge_report.h"
#include "ckpt/edit/plan.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/parameter_order.h"

namespace ckpt {

/// A key of which both sides exist with different shapes.
struct ShapeMismatch {
  std::string name;
  std::vector<std::int64_t> in_file;
  std::vector<std::int64_t> in_reference;
};

/// A layer that got another number of rows.
struct HeadReport {
  std::string name;
  std::string new_name;
  std::vector<std::int64_t> old_shape;  ///< of its weight
  std::vector<std::int64_t> new_shape;
  std::uint64_t kept_rows = 0;
  std::uint64_t seed = 0;  ///< of its random values
};

/// What changed in one state dict.
struct StateDictReport {
  std::string root;  ///< path; "" is the root of the file
  std::uint64_t keys_before = 0;
  std::uint64_t keys_after = 0;
  std::uint64_t tensors_after = 0;
  std::uint64_t bytes_before = 0;  ///< numel × item size of its tensors
  std::uint64_t bytes_after = 0;
  /// File name and new name, both the checkpoint's.
  std::vector<std::pair<std::string_view, std::string_view>> renamed;
  std::vector<std::string> dropped;
  std::vector<std::string> missing;     ///< in the reference only
  std::vector<std::string> unexpected;  ///< in the file only (and so dropped)
  std::vector<ShapeMismatch> mismatched;
  std::vector<HeadReport> heads;
  std::vector<std::string> added;                            ///< keys that the file did not have
  std::vector<std::pair<std::string, std::uint64_t>> taken;  ///< file, and how many tensors came from it
};

/// What changed in one optimizer's state so that it follows its state dict.
struct OptimizerReport {
  std::string path;
  std::string root;  ///< path of the state dict
  /// What tells which parameter is which; kNothing where only names had to follow.
  OrderEvidence evidence = OrderEvidence::kNothing;
  std::uint64_t parameters_before = 0;
  std::uint64_t parameters_after = 0;
  std::vector<std::string> dropped;  ///< keys of the file, as below
  std::vector<std::string> reset;    ///< parameters of another shape or made anew, whose state is gone
  std::uint64_t renamed = 0;         ///< names that it keeps

  bool changes_nothing() const { return dropped.empty() && reset.empty() && renamed == 0; }
};

struct CKPT_EXPORT PlanReport {
  std::vector<StateDictReport> state_dicts;
  std::vector<OptimizerReport> optimizers;
  std::vector<std::string> removed_wrappers;  ///< "module.", once each
  std::vector<std::string> dropped_entries;   ///< paths
  std::optional<std::string> new_root;        ///< path of the state dict that became the root
  std::optional<ConversionReport> conversion;
  std::vector<MergeReport> merges;      ///< those by a method
  std::vector<CastValues> merge_casts;  ///< where merges take a tensor as another dtype, and lose something
  std::vector<std::string> notes;       ///< sentences
  bool strict_failed = false;           ///< `strict` and something is missing or does not fit

  bool changes_nothing() const;
};

/// Begins lines of hints: whoever shows them writes the command again, with the option behind this word.
inline constexpr std::string_view kRepeat = "REPEAT";

/// Edits act in order, each on the keys as those before left them. Of several, errors tell which it was.
/// Errors: kNotFound (no state dict; a pattern or path that matches nothing, with the nearest name), kUsage,
/// kUnsupported (keys of a whole module), kRefused (collisions, with both names; a state dict left empty; an
/// optimizer that can't follow, with a hint that ends with a line "REPEAT --optimizer CHOICE" for each
/// choice).
CKPT_EXPORT Result<PlanReport> apply_plan(const Plan& plan, Checkpoint& checkpoint);

/// The keys and shapes of a reference for `--like`: those of its only state dict, or of the one at `root`, if
/// given. Errors: kNotFound, kUsage when there are several.
CKPT_EXPORT Result<std::vector<ReferenceKey>> reference_keys(Checkpoint& reference,
                                                             const std::optional<std::string>& root);

}  // namespace ckpt
