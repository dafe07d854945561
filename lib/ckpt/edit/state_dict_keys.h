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
  std::uint32_t entry = 0;
  bool dropped = false;
};

struct EditedStateDict {
  std::uint32_t index = 0;  ///< in Checkpoint::state_dicts
  std::string root;
  std::vector<EditedKey> keys;
  std::uint64_t keys_before = 0;
  std::uint64_t bytes_before = 0;  ///< numel × item size of its tensors
};

/// Names that `__metadata__` of safetensors ties to tensors of the state dict become keys behind the others,
/// whose tensors are those; they are spelled as they were where they still are what they were in the end.
void add_tied_keys(Checkpoint& checkpoint, std::uint32_t state_dict);

/// The checkpoint must outlive the result.
EditedStateDict load_keys(Checkpoint& checkpoint, std::uint32_t state_dict);

/// Keys of the mapping that no edit reaches, since their values are no tensors: a mixed root, or what --root
/// names.
std::vector<std::string> carried_keys(const EditedStateDict& dict, const Checkpoint& checkpoint);

/// Errors: kRefused when two keys would have one name, or none is left.
Status check_keys(const EditedStateDict& dict, const Checkpoint& checkpoint);

/// Hands the result to the checkpoint's mutators, which take the new names.
/// Errors: those of `check_keys`.
Status store_keys(EditedStateDict& dict, Checkpoint& checkpoint);

}  // namespace ckpt
