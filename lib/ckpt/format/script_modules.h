// SPDX-License-Identifier: BSD-3-Clause
// The modules that a walk over a TorchScript archive meets, and the state dict that the outermost one gives:
// per module its parameters, its buffers, then its children, each in the order of the code. A module that
// stands in two places counts in both, as in PyTorch.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/format/torchscript_code.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

class ScriptModules {
 public:
  ScriptModules(ScriptClasses& classes, Diagnostics& diagnostics)
      : classes_(classes), diagnostics_(diagnostics) {}

  /// The finished object `node` of class `name`, met for the first time at `place`: its number if it is a
  /// module, else kNoIndex. A class that the code should have and doesn't is a finding.
  std::uint32_t add(Use node, const GlobalName& name, PlaceId place, const Checkpoint& checkpoint);

  /// An attribute of `module` that is a tensor. Returns the flags its row gets.
  std::uint16_t add_tensor(std::uint32_t module, Use key, TensorId tensor, const ValueGraph& graph);

  /// An attribute of `module` that is an object, perhaps one that was met before.
  void add_object(std::uint32_t module, Use key, Use node, PlaceId place, const ValueGraph& graph);

  /// The state dict of the root, after the walk. Names the rows of its tensors; where a module stands in a
  /// second place, its tensors get rows there. Rows are then in the order of the state dict. Precondition:
  /// `has_root`. Errors: kCorrupt (a module that contains itself), kRefused (shared so often that the state
  /// dict would be far larger than the file).
  Result<StateDict> make_state_dict(Checkpoint& checkpoint);

  /// Is the root a module? Else the archive has no state dict.
  bool has_root(const Checkpoint& checkpoint) const {
    return !modules_.empty() && checkpoint.places[modules_.front().place].kind == StepKind::kRoot;
  }

 private:
  struct Slot {
    std::uint32_t position = 0;  ///< among the attributes of the class
    Use key = kNoUse;
    TensorId tensor = kNoIndex;
    Use object = kNoUse;
    PlaceId place = kNoIndex;  ///< of an object
    bool is_parameter = false;
  };

  struct Module {
    const ScriptClass* script_class = nullptr;
    PlaceId place = kNoIndex;  ///< where it was met first
    std::vector<Slot> tensors;
    std::vector<Slot> objects;
    bool open = false;  ///< while the state dict is made: a module around the current one
  };

  struct Frame {
    std::uint32_t module = 0;
    PlaceId place = kNoIndex;
    std::string prefix;
    std::size_t next = 0;
  };

  Status enter(Frame frame, Checkpoint& checkpoint, StateDict& dict);
  void list_tensors(const Frame& frame, Checkpoint& checkpoint, StateDict& dict);
  static void put_rows_in_order(Checkpoint& checkpoint, StateDict& dict);
  static TensorId repeat_row(TensorId tensor, PlaceId module, Use key, Checkpoint& checkpoint);

  ScriptClasses& classes_;
  Diagnostics& diagnostics_;
  std::vector<Module> modules_;
  std::unordered_map<Use, std::uint32_t> module_of_node_;
  std::vector<Frame> frames_;
  std::uint64_t steps_left_ = 0;  ///< modules and keys that may still come
  bool reported_ = false;
};

}  // namespace ckpt
