// SPDX-License-Identifier: BSD-3-Clause
// A finished value taken apart: what made it, and what was put into it later. Python containers and objects
// all look alike here: a maker (EMPTY_DICT, REDUCE, NEWOBJ, …) and changes (SETITEMS, APPENDS, BUILD).
#pragma once

#include <cstdint>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

enum class ValueKind : std::uint8_t {
  kNone,
  kBool,
  kInteger,
  kFloat,
  kString,
  kBytes,
  kGlobal,  ///< a class or function by name
  kDict,
  kList,
  kTuple,
  kSet,
  kOrderedDict,  ///< and other mappings made by a call or a class
  kObject,       ///< anything made by a call or a class
  kStorage,      ///< a persistent id
};

/// Name used in JSON: "none", "bool", "int", …
CKPT_EXPORT const char* value_kind_name(ValueKind kind);

/// One item of a mapping, in the order in which items were set.
struct MappingItem {
  Use key = kNoUse;
  Use value = kNoUse;
  Use pair = kNoUse;  ///< the [key, value] list that holds both, in mappings made from a list of pairs
};

struct Anatomy {
  ValueKind kind = ValueKind::kNone;
  Use made = kNoUse;               ///< the node that made the value
  std::vector<MappingItem> items;  ///< of mappings (and of objects that got items)
  std::vector<Use> elements;       ///< of lists, tuples, sets (and of objects that got elements)
  std::vector<Use> arguments;      ///< of calls and classes: the callable, then its argument values
  std::vector<Use> states;         ///< operands of BUILD

  bool is_mapping() const { return kind == ValueKind::kDict || kind == ValueKind::kOrderedDict; }
};

/// TorchScript writes lists and dicts as arguments of a call that tells their type. The argument, if `node`
/// is such a call, else `node`.
CKPT_EXPORT Use untagged(const ValueGraph& graph, Use node);

/// Fills `anatomy` (its vectors are reused) for the finished value at `node`; that of a type tag is its
/// argument's.
CKPT_EXPORT void dissect(const ValueGraph& graph, Use node, Anatomy& anatomy);

/// Attributes that BUILD operands set: items of a dict, or of both dicts of a (dict, slots) pair.
CKPT_EXPORT std::vector<MappingItem> attributes(const ValueGraph& graph, const std::vector<Use>& states);

}  // namespace ckpt
