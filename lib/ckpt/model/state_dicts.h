// SPDX-License-Identifier: BSD-3-Clause
// Which mappings of a file are state dicts: at least one tensor, only string keys, only tensors and
// …_extra_state values, reached from the root through string keys, not inside an optimizer's state. The
// root also counts when it mixes tensors with other values and no state dict lies below it. A whole module
// counts as the state dict it would give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// An entry of `__metadata__` of safetensors that ties its name to a tensor, as the reference's save_model
/// leaves them.
struct TiedName {
  std::size_t entry;  ///< of the checkpoint's metadata
  TensorId tensor;
};

/// In the order of the entries; names of tensors are those in the file.
CKPT_EXPORT std::vector<TiedName> tied_names(const Checkpoint& checkpoint);

/// A value under a key that ends in _extra_state and is no tensor.
struct ExtraState {
  std::uint32_t mapping;
  Use key;
  Use value;
};

/// Fills `checkpoint.state_dicts` from its mappings. `modules`: the state dicts of modules.
/// `mapping_of_tensor`: by row, the mapping whose value it is.
void select_state_dicts(Checkpoint& checkpoint, std::vector<ExtraState> extra_states,
                        std::vector<StateDict> modules, const std::vector<std::uint32_t>& mapping_of_tensor);

/// The path that the tables have for the mapping at `path`: where a file shows one mapping under several, the
/// first of them. `path` itself where there is no mapping.
CKPT_EXPORT std::string first_path_of(const Checkpoint& checkpoint, const std::string& path);

/// The state dicts that `roots` (paths; empty: all) name. A root may name any mapping with string keys, or a
/// whole module anywhere, which is then made a state dict of its own. Errors: kNotFound listing the mappings
/// that hold tensors.
CKPT_EXPORT Result<std::vector<std::uint32_t>> choose_state_dicts(Checkpoint& checkpoint,
                                                                  const std::vector<std::string>& roots);

}  // namespace ckpt
