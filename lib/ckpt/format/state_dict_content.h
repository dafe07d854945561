// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint seen as one state dict: its rows under their names after the edits, and what else there is in
// the file, for containers that hold nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Is the container a pickle of any object, which goes as it is into another one of that kind? From the
/// others a state dict is all that can be taken.
constexpr bool holds_any_object(FormatId format) {
  return format == FormatId::kTorchZip || format == FormatId::kTorchLegacy;
}

struct NamedRow {
  std::string name;
  TensorId tensor = kNoIndex;
};

struct StateDictContent {
  std::uint32_t dict = kNoIndex;    ///< kNoIndex: an empty mapping stands at the root
  std::vector<NamedRow> rows;       ///< in the order of the keys
  std::vector<std::string> extras;  ///< paths of values in it that are no tensors
  std::vector<std::string> around;  ///< paths of what stands beside it, and beside what it lies in
  bool of_module = false;           ///< a whole module gives it
  bool has_metadata = false;        ///< it knows the versions of its modules
  bool has_attributes = false;      ///< Python attributes hang on tensors of it
};

/// The state dict that the file is made of: the one that an edit made the root, the one at the root, or the
/// only one. Dropped keys and entries do
/// not count. Errors: kUnsupported where there is none, several, or a whole module
/// among objects, which --state-dict makes one.
Result<StateDictContent> state_dict_content(const Checkpoint& checkpoint);

}  // namespace ckpt
