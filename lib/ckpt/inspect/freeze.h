// SPDX-License-Identifier: BSD-3-Clause
// Which parameters of a state dict train under a freeze, and what that costs: counts by group, memory of
// gradients and optimizer, and what moves in spite of it. Metadata alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/name_pattern.h"

namespace ckpt {

/// --train or --freeze: what becomes of the parameters whose key matches.
struct FreezeRule {
  bool train = false;
  NamePattern pattern;
};

/// Groups are modules, so many levels deep, or what a regular expression captures of a key.
struct FreezeGrouping {
  std::uint64_t depth = 1;  ///< 0 puts all into one
  std::optional<NamePattern> expression;
};

enum class OptimizerKind : std::uint8_t { kSgd, kMomentum, kAdam, kAdamW };

struct FreezeQuestion {
  std::vector<std::string> roots;           ///< paths of state dicts; empty: all
  std::vector<FreezeRule> rules;            ///< in order, the last that matches decides
  std::optional<std::uint64_t> train_last;  ///< freezes all but so many, before the rules act
  std::vector<NamePattern> buffers;         ///< keys that the user says are buffers
  std::vector<NamePattern> parameters;      ///< keys of unknown kind that are parameters
  FreezeGrouping grouping;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  bool allow_unmatched = false;
};

/// A tensor under a key.
struct FreezeEntry {
  TensorId tensor = kNoIndex;
  TensorRole role;          ///< a parameter or a buffer
  std::uint32_t first = 0;  ///< the first entry with the same tensor; itself for most
  std::uint32_t group = 0;  ///< index into the groups
  bool trains = false;      ///< alike for all keys of one tensor
};

struct FreezeAmount {
  std::uint64_t tensors = 0;
  std::uint64_t numel = 0;
  std::uint64_t bytes = 0;
};

/// Tied tensors count once, where their first key is.
struct FreezeGroup {
  std::string name;
  FreezeAmount parameters;
  FreezeAmount trainable;  ///< of the parameters
  FreezeAmount buffers;
};

/// Bytes beyond the parameters' own, after the first step of training.
struct TrainingMemory {
  std::uint64_t gradients = 0;
  std::uint64_t state = 0;  ///< of the optimizer, counters of steps included
  std::uint64_t steps = 0;  ///< of those, the counters: Adam has one float32 a parameter
};

/// A key with which it goes otherwise than its own rules say, because another has a hand in its tensor.
struct FreezeConflict {
  std::string_view name;
  std::string_view other;  ///< the key whose rule decides, or whose parameter overlaps
  bool trains = false;     ///< does `name` train?
  bool overlap = false;    ///< frozen, and yet it changes: it shares memory with a parameter that trains
};

/// A norm layer whose parameters are frozen and whose statistics move whenever the model is in training mode.
struct MovingStatistics {
  std::string_view module;
  std::vector<std::string_view> buffers;
};

enum class FreezeStart : std::uint8_t { kAll, kNone, kRequiresGrad, kLast };

struct FreezeReport {
  std::string root;  ///< path of the state dict
  std::uint32_t state_dict = 0;
  FreezeStart start = FreezeStart::kAll;  ///< what trains before rules act
  std::vector<FreezeEntry> entries;       ///< parameters and buffers, in file order
  std::vector<FreezeGroup> groups;        ///< in the order of their first keys
  FreezeGroup total;
  TrainingMemory memory;
  std::vector<FreezeConflict> conflicts;
  std::vector<MovingStatistics> moving;
  std::vector<std::string_view> untrainable;  ///< asked to train, but of a dtype that has no gradient
  std::uint64_t extra_states = 0;             ///< `_extra_state` entries: neither parameter nor buffer
};

/// A report for each state dict that is asked about. The checkpoint owns the names, and must outlive them.
/// Errors: kNotFound for roots and for patterns without a match, with the nearest key; kRefused for tensors
/// of unknown kind, for `buffers` that are proven parameters, and where the order of parameters is not known;
/// kUsage for more last parameters than there are.
CKPT_EXPORT Result<std::vector<FreezeReport>> freeze_report(Checkpoint& checkpoint,
                                                            const FreezeQuestion& question);

}  // namespace ckpt
