// SPDX-License-Identifier: BSD-3-Clause
// A value of a document as JSON: what `inspect --get` prints and what entries show.
#pragma once

#include <string>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// kind: "int", "float", "str", "object", …; NumPy scalars count as the number they hold.
struct EntryText {
  std::string kind;
  std::string json;        ///< the value as JSON; empty where there is none to show
  std::string class_name;  ///< of objects: "argparse.Namespace"
};

/// Kind and value of a leaf, an object or an empty container. Strings above `longest` bytes are cut.
CKPT_EXPORT EntryText describe_entry(const ValueGraph& graph, Use use, std::size_t longest);

/// The value with all it holds: mappings as objects (keys that are no strings in Python's spelling),
/// sequences as arrays, objects as {"@class": …, attributes}, tensors as their description, what repeats on
/// the way down as "…". Errors: kUnsupported beyond 10^6 values.
CKPT_EXPORT Result<std::string> value_as_json(const Checkpoint& checkpoint, Use use);

}  // namespace ckpt
