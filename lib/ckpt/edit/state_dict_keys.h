// SPDX-License-Identifier: BSD-3-Clause
// The keys of one state dict while a plan acts on it: current names beside the names in the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

struct EditedKey {
  std::string_view original;  ///< the checkpoint's
  std::string name;
  TensorId tensor = kNoIndex;
  std::uint32_t entry = 0;  ///< kNoIndex: a name that `__metadata__` ties to the tensor
  bool dropped = false;
};

struct EditedStateDict {
  std::uint32_t index = 0;  ///< in Checkpoint::state_dicts
  std::string root;
  std::vector<EditedKey> keys;
  std::uint64_t keys_before = 0;
  std::uint64_t bytes_before = 0;  ///< numel × item size of its tensors
};

/// The checkpoint must outlive the result.
EditedStateDict load_keys(Checkpoint& checkpoint, std::uint32_t state_dict);

/// Names that `__metadata__` of safetensors ties to tensors are keys while keys are dropped and renamed.
void add_tied_names(EditedStateDict& dict, Checkpoint& checkpoint);

/// Before other edits and in the end: a tied name stays what it is where neither it nor its tensor's key has
/// changed. Else it is a key of its own from here on, whose tensor is that of the other, and may outlive it.
void settle_tied_names(EditedStateDict& dict, Checkpoint& checkpoint);

/// Errors: kRefused when two keys would have one name, or none is left.
Status check_keys(const EditedStateDict& dict, const Checkpoint& checkpoint);

/// Hands the result to the checkpoint's mutators, which take the new names.
/// Errors: those of `check_keys`.
Status store_keys(EditedStateDict& dict, Checkpoint& checkpoint);

}  // namespace ckpt
