// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/anatomy.h"

#include <algorithm>

namespace ckpt {
namespace {

bool is_change(Opcode opcode) {
  const auto effect = opcode_info(opcode).effect;
  return effect == Effect::kExtendOne || effect == Effect::kExtendMark;
}

ValueKind leaf_kind(const ValueGraph& graph, Use node) {
  switch (graph.opcode(node)) {
    case Opcode::kNone: return ValueKind::kNone;
    case Opcode::kNewtrue:
    case Opcode::kNewfalse: return ValueKind::kBool;
    case Opcode::kInt: return graph.boolean(node) ? ValueKind::kBool : ValueKind::kInteger;
    case Opcode::kBinint:
    case Opcode::kBinint1:
    case Opcode::kBinint2:
    case Opcode::kLong:
    case Opcode::kLong1:
    case Opcode::kLong4: return ValueKind::kInteger;
    case Opcode::kFloat:
    case Opcode::kBinfloat: return ValueKind::kFloat;
    case Opcode::kGlobal:
    case Opcode::kStackGlobal: return ValueKind::kGlobal;
    case Opcode::kPersid:
    case Opcode::kBinpersid: return ValueKind::kStorage;
    default: break;
  }
  if (graph.is_string(node)) return ValueKind::kString;
  if (graph.is_bytes(node)) return ValueKind::kBytes;
  return ValueKind::kObject;
}

/// Argument values of a call whose arguments are the tuple at `use`; the value itself where it is no tuple.
void append_arguments(const ValueGraph& graph, Use use, std::vector<Use>& out) {
  std::vector<Use> values;
  const auto node = graph.resolve(use);
  switch (graph.opcode(node)) {
    case Opcode::kEmptyTuple: return;
    case Opcode::kTuple:
    case Opcode::kTuple1:
    case Opcode::kTuple2:
    case Opcode::kTuple3:
      graph.children(node, values);
      out.insert(out.end(), values.begin(), values.end());
      return;
    default: out.push_back(use);
  }
}

/// Python 2 pickles OrderedDict as a call with a list of [key, value] lists.
bool take_pairs(const ValueGraph& graph, Use list, std::vector<MappingItem>& items) {
  Anatomy pairs;
  dissect(graph, graph.resolve(list), pairs);
  if (pairs.kind != ValueKind::kList) return false;
  Anatomy pair;
  for (const auto element : pairs.elements) {
    dissect(graph, graph.resolve(element), pair);
    if (pair.elements.size() != 2) return false;
    items.push_back({pair.elements[0], pair.elements[1], element});
  }
  return true;
}

void dissect_call(const ValueGraph& graph, Anatomy& anatomy) {
  const auto code = graph.opcode(anatomy.made);
  std::vector<Use> operands;
  graph.children(anatomy.made, operands);
  anatomy.kind = ValueKind::kObject;
  if (code == Opcode::kInst || code == Opcode::kObj) {
    anatomy.arguments = operands;
    return;
  }
  anatomy.arguments.push_back(operands.front());
  for (std::size_t i = 1; i < operands.size(); ++i) append_arguments(graph, operands[i], anatomy.arguments);
  const auto name = graph.global(operands.front());
  const bool ordered = name && name->module == "collections" && name->name == "OrderedDict";
  if (ordered) {
    anatomy.kind = ValueKind::kOrderedDict;
    if (anatomy.arguments.size() == 2 && take_pairs(graph, anatomy.arguments[1], anatomy.items))
      anatomy.arguments.pop_back();
  }
}

void dissect_made(const ValueGraph& graph, Anatomy& anatomy) {
  switch (graph.opcode(anatomy.made)) {
    case Opcode::kEmptyDict: anatomy.kind = ValueKind::kDict; return;
    case Opcode::kDict: {
      anatomy.kind = ValueKind::kDict;
      std::vector<Use> operands;
      graph.children(anatomy.made, operands);
      for (std::size_t i = 0; i + 1 < operands.size(); i += 2)
        anatomy.items.push_back({operands[i], operands[i + 1], kNoUse});
      return;
    }
    case Opcode::kEmptyList:
    case Opcode::kList:
      anatomy.kind = ValueKind::kList;
      graph.children(anatomy.made, anatomy.elements);
      return;
    case Opcode::kEmptySet:
    case Opcode::kFrozenset:
      anatomy.kind = ValueKind::kSet;
      graph.children(anatomy.made, anatomy.elements);
      return;
    case Opcode::kEmptyTuple:
    case Opcode::kTuple:
    case Opcode::kTuple1:
    case Opcode::kTuple2:
    case Opcode::kTuple3:
      anatomy.kind = ValueKind::kTuple;
      graph.children(anatomy.made, anatomy.elements);
      return;
    case Opcode::kReduce:
    case Opcode::kNewobj:
    case Opcode::kNewobjEx:
    case Opcode::kInst:
    case Opcode::kObj: dissect_call(graph, anatomy); return;
    default: anatomy.kind = leaf_kind(graph, anatomy.made);
  }
}

/// `backwards` forwards, behind what was there first.
template <typename T>
void put_in_order(std::vector<T>& backwards, const std::vector<T>& first) {
  backwards.insert(backwards.end(), first.rbegin(), first.rend());
  std::reverse(backwards.begin(), backwards.end());
}

}  // namespace

const char* value_kind_name(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNone: return "none";
    case ValueKind::kBool: return "bool";
    case ValueKind::kInteger: return "int";
    case ValueKind::kFloat: return "float";
    case ValueKind::kString: return "str";
    case ValueKind::kBytes: return "bytes";
    case ValueKind::kGlobal: return "global";
    case ValueKind::kDict: return "dict";
    case ValueKind::kList: return "list";
    case ValueKind::kTuple: return "tuple";
    case ValueKind::kSet: return "set";
    case ValueKind::kOrderedDict: return "dict";
    case ValueKind::kObject: return "object";
    case ValueKind::kStorage: return "storage";
  }
  return "object";
}

Use untagged(const ValueGraph& graph, Use node) {
  if (graph.opcode(node) != Opcode::kReduce) return node;
  std::vector<Use> operands;
  graph.children(node, operands);
  const auto name = graph.global(operands.front());
  if (!name || name->module != "torch.jit._pickle") return node;
  graph.children(graph.resolve(operands.back()), operands);
  return operands.empty() ? node : graph.resolve(operands.front());
}

void dissect(const ValueGraph& graph, Use node, Anatomy& anatomy) {
  node = untagged(graph, node);
  anatomy.items.clear();
  anatomy.elements.clear();
  anatomy.arguments.clear();
  anatomy.states.clear();
  // A mapping of a million items is changed a thousand times. The changes are met last one first, so what
  // they put in is gathered backwards, in one pass.
  std::vector<Use> operands;
  bool has_items = false;
  bool is_changed = false;
  auto made = node;
  while (is_change(graph.opcode(made))) {
    is_changed = true;
    graph.children(made, operands);
    switch (graph.opcode(made)) {
      case Opcode::kSetitem:
      case Opcode::kSetitems:
        for (auto i = (operands.size() - 1) / 2 * 2; i > 0; i -= 2)
          anatomy.items.push_back({operands[i - 1], operands[i], kNoUse});
        has_items = true;
        break;
      case Opcode::kBuild: anatomy.states.push_back(operands.back()); break;
      default: anatomy.elements.insert(anatomy.elements.end(), operands.rbegin(), operands.rend() - 1);
    }
    made = operands.front();
    if (graph.repeats(made))
      break;  // changed through an alias: what the alias holds is seen at its definition
  }
  anatomy.made = made;
  if (!is_changed) return dissect_made(graph, anatomy);
  Anatomy first;
  first.made = made;
  dissect_made(graph, first);
  anatomy.kind = has_items && first.kind == ValueKind::kObject ? ValueKind::kOrderedDict : first.kind;
  anatomy.arguments = std::move(first.arguments);
  std::reverse(anatomy.states.begin(), anatomy.states.end());
  put_in_order(anatomy.items, first.items);
  put_in_order(anatomy.elements, first.elements);
}

std::vector<MappingItem> attributes(const ValueGraph& graph, const std::vector<Use>& states) {
  std::vector<MappingItem> out;
  Anatomy state;
  auto take = [&](Use use) {
    dissect(graph, graph.resolve(use), state);
    if (!state.is_mapping()) return false;
    out.insert(out.end(), state.items.begin(), state.items.end());
    return true;
  };
  for (const auto use : states) {
    if (take(use)) continue;
    dissect(graph, graph.resolve(use), state);
    if (state.kind != ValueKind::kTuple || state.elements.size() != 2) continue;
    const auto pair = state.elements;
    for (const auto half : pair) take(half);
  }
  return out;
}

}  // namespace ckpt
