// SPDX-License-Identifier: BSD-3-Clause
// What edits of a state dict mean for the optimizer that counts its parameters, index by index. A question:
// `settle_optimizers` does it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/optimizer_state.h"
#include "ckpt/model/parameter_order.h"

namespace ckpt {

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

struct OptimizerFates {
  std::uint32_t state_dict = kNoIndex;  ///< whose parameters are counted
  OrderEvidence evidence = OrderEvidence::kNothing;
  std::vector<Fate> fates;  ///< by slot
};

/// How far `find_fates` may go.
struct FateRules {
  bool may_assume = false;       ///< the order of the keys may be taken for that of the indices
  bool strips_wrappers = false;  ///< names lose wrappers' names that keys haven't got
};

/// After the checkpoint knows of all edits. Of the state dicts that the optimizer may belong to, those with
/// the best evidence count. Errors: kRefused, as `cannot_follow` says it.
Result<OptimizerFates> find_fates(const Checkpoint& checkpoint, const OptimizerState& optimizer,
                                  const std::vector<std::uint32_t>& state_dicts, FateRules rules);

/// The key that a slot's name means, where that is another text now. One that differed from its key by a
/// wrapper's name follows when the key is renamed, and when wrappers are stripped.
std::optional<std::string> new_name(const Checkpoint& checkpoint, const OptimizerSlot& slot,
                                    std::uint32_t state_dict, std::uint32_t entry, FateRules rules);

/// Has a row been replaced by one of another shape, or by values made anew?
bool loses_state(const Checkpoint& checkpoint, TensorId tensor);

/// kRefused: the optimizer at `path` is left behind. The hint has the choices; `could_assume`: to take the
/// order of the keys is one.
Error cannot_follow(std::string_view path, std::string_view why, bool could_assume = false);

}  // namespace ckpt
