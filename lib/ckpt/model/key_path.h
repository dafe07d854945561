// SPDX-License-Identifier: BSD-3-Clause
// Paths from the root of a file, as product and scripts spell them:
//
//   state_dict.layer1["odd key"]   string keys; no dot before the first
//   optimizer.state{0}.exp_avg     {…} a key that is no string, in Python's spelling
//   history[3]@args@lr             [i] of a list or tuple, @name an attribute of an object
//   emb.weight<indices>            parts of composite tensors
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// Appends a string key as a path step: `.key` (bare `key` at the front of a path) or `["…"]`.
void append_key_step(std::string& path, std::string_view key);

/// A mapping key that is no string, or any small value, as Python's repr() would spell it; objects as
/// `<module.name at NODE>`, which is unique in the file. Deep nesting is cut with "…".
std::string python_repr(const ValueGraph& graph, Use use);

/// A float as Python's repr() spells it: shortest round-trip digits, "1.0", "1e-05", "inf", "nan".
CKPT_EXPORT std::string python_float(double value);

/// A path for messages: quoted, or "the root".
CKPT_EXPORT std::string quoted_path(std::string_view path);

/// One parsed step.
struct PathStep {
  enum class Kind : std::uint8_t { kKey, kIndex, kOther, kAttribute, kPart } kind = Kind::kKey;
  std::string text;  ///< the key, the index' digits, the repr inside {}, the attribute's or part's name
};

/// Errors: kUsage with the column where the text stops being a path.
CKPT_EXPORT Result<std::vector<PathStep>> parse_path(std::string_view path);

/// Is `path` that of the value at `above`, or of something in it?
CKPT_EXPORT bool lies_below(std::string_view path, std::string_view above);

}  // namespace ckpt
