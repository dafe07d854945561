// SPDX-License-Identifier: BSD-3-Clause
// Tensors that lie in the same bytes, where each name has bytes of its own: what becomes of them in
// safetensors.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/state_dict_content.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/target.h"

namespace ckpt {

struct SettledTies {
  std::vector<bool> is_written;  ///< by row: has bytes of its own
  /// Names of the others, each with the name that its bytes are written under; in the order of the rows.
  std::vector<std::pair<std::string, std::string>> aliases;
};

/// Errors: kUnsupported where `tied` allows no ties, for views that share a part of their bytes (unless each
/// becomes a copy), and for an alias where `__metadata__` says something else by its name.
Result<SettledTies> settle_ties(const Checkpoint& checkpoint, std::span<const NamedRow> rows,
                                TiedTensors tied, std::vector<std::string>& notes);

/// A member of a JSON object: `"name":"value"`.
void append_json_entry(std::string& text, const std::pair<std::string, std::string>& entry);

}  // namespace ckpt
