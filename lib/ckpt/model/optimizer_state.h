// SPDX-License-Identifier: BSD-3-Clause
// An optimizer's state as PyTorch saves it, which counts parameters by position:
//
//   {'state': {0: {'step': …, 'exp_avg': …}, 1: …}, 'param_groups': [{'param_names': ['w', 'b'], …, 'params':
//   [0, 1]}]}
//
// A parameter's index stands in the `params` of its group and, once it was trained, is a key of `state`.
// `param_names` is there where the optimizer was built from named parameters (PyTorch 2.6). The state dicts
// of torch.distributed.checkpoint have the names themselves in the place of indices. Which parameter an index
// means is told by parameter_order.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Is a tensor of this name a factor of a state, which lacks a dimension of the parameter? Those of the
/// Adafactor of transformers and fairseq: exp_avg_sq_row, exp_avg_sq_col.
inline bool is_factor(std::string_view name) {
  return name.ends_with("_row") || name.ends_with("_col");
}

/// One parameter of an optimizer.
struct OptimizerSlot {
  std::int64_t index = 0;  ///< where names stand for indices: how many come before it
  Use use = kNoUse;        ///< of the index, in `params`
  std::uint32_t group = 0;
  Use name = kNoUse;         ///< in `param_names`, or `use`; kNoUse without names
  Use state_key = kNoUse;    ///< the index as a key of `state`; kNoUse without state
  Use state_value = kNoUse;  ///< what is kept for it
  Use state_pair = kNoUse;   ///< the [key, value] list around both, in mappings made of pairs
  /// Shape of the tensors that are kept for it. Nothing where there are none, or they differ or are factors.
  /// Counters without dimensions (`step`) say nothing.
  std::optional<std::vector<std::int64_t>> shape;

  /// Do names stand for indices?
  bool is_keyed_by_name() const { return name == use; }
};

struct OptimizerState {
  PlaceId place = kNoIndex;
  std::uint32_t groups = 0;
  std::vector<OptimizerSlot> slots;  ///< group after group, as `params` list them
  bool has_names = false;            ///< every group has them
  bool counts_up = true;             ///< the indices are 0, 1, 2, … in this order
};

/// Optimizers of the file that stand in no other one, by index in Checkpoint::mappings.
CKPT_EXPORT std::vector<std::uint32_t> optimizers_of(const Checkpoint& checkpoint);

/// Reads the optimizer at a mapping. Errors: kRefused for a layout that keeps more than one state for each
/// parameter (that of LBFGS, ZeRO, wrappers with master weights), with what is odd about it.
CKPT_EXPORT Result<OptimizerState> read_optimizer_state(const Checkpoint& checkpoint, std::uint32_t mapping);

/// The state dicts whose parameters the optimizer at `place` may train: those that stand nearest to it, in
/// the innermost container around it that holds any. Averages (EMA) are none.
CKPT_EXPORT std::vector<std::uint32_t> state_dicts_beside(const Checkpoint& checkpoint, PlaceId place);

}  // namespace ckpt
