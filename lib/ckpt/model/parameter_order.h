// SPDX-License-Identifier: BSD-3-Clause
// Which parameter of a state dict each index of an optimizer means, and what says so. Buffers are none; keys
// that are tied to each other are one parameter; parameters that are frozen may be missing in the optimizer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/optimizer_state.h"

namespace ckpt {

/// From weak to strong. Names and shapes prove an order.
enum class OrderEvidence : std::uint8_t {
  kNothing,
  kAssumed,  ///< one group counts all parameters, and no shape speaks against the order of the keys
  kShapes,   ///< for every index exactly one parameter has the shape of what is kept for it
  kNames,    ///< the optimizer kept them
};

/// Name used in reports: "nothing", "model-order", "shapes", "names".
CKPT_EXPORT std::string_view order_evidence_name(OrderEvidence evidence);

struct ParameterOrder {
  OrderEvidence evidence = OrderEvidence::kNothing;
  /// By slot: the keys of its parameter, as entries of the state dict; several where they are tied.
  std::vector<std::vector<std::uint32_t>> entries;
  /// What keeps the order from being proven: the first index that disagrees.
  std::string disagreement;
};

/// Of the file as it was read: edits that the checkpoint has noted make no difference.
CKPT_EXPORT ParameterOrder find_parameter_order(const Checkpoint& checkpoint, const OptimizerState& optimizer,
                                                std::uint32_t state_dict);

/// By slot: the entry of the state dict that its name means, or kNoIndex. Where not all of
/// them are keys, wrappers' names (`module.`) make no difference if that settles them all.
CKPT_EXPORT std::vector<std::uint32_t> entries_by_name(const Checkpoint& checkpoint,
                                                       const OptimizerState& optimizer,
                                                       std::uint32_t state_dict);

}  // namespace ckpt
