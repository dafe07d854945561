// SPDX-License-Identifier: BSD-3-Clause
// The state dict that a whole module gives, as a value of its pickle: its tensors are moved out of the
// Parameters and tables that held them.
#pragma once

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/tensor_spelling.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/module_state.h"
#include "ckpt/pickle/encoder.h"

namespace ckpt {

class ModuleSpeller {
 public:
  /// All must outlive this. `edits` gets what detaching a tensor changes in its own spelling.
  ModuleSpeller(const Checkpoint& checkpoint, const TensorSpeller& tensors, GraphEdits& edits)
      : checkpoint_(checkpoint),
        graph_(checkpoint.graph()),
        tensors_(tensors),
        edits_(edits),
        reader_(graph_, PickleDialect::kPython) {}

  /// The OrderedDict with its `_metadata`, as all edits left it; `keys`: what became of each.
  Result<NewValue> spell(std::uint32_t state_dict, const std::vector<KeyMove>& keys);

 private:
  NewValue spell_value(const StateDictEntry& entry);
  NewValue spell_detached(const TensorInfo& row, Use value);
  /// The tensor in a Parameter, perhaps itself.
  Use inner(Use value);
  void detach(Use tensor);
  bool is_plain_type(Use type) const;

  std::vector<Use> operands(Use node) const {
    std::vector<Use> out;
    graph_.children(node, out);
    return out;
  }

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  const TensorSpeller& tensors_;
  GraphEdits& edits_;
  TensorReader reader_;
  std::unordered_set<Use> moved_;  ///< tensors that stand under a key already
};

}  // namespace ckpt
