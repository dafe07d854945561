// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/encoder.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/pickle/emission.h"

namespace ckpt {
namespace {

/// Is `use` the position of a value that somebody uses?
Status check_use(const ValueGraph& graph, Use use) {
  if (use >= graph.size()) return bad_edit(use, fmt::format("the graph has {} nodes", graph.size()));
  if (graph.opcode(use) == Opcode::kMark) return bad_edit(use, "a MARK is no value");
  if (graph.finished(use) != use) {
    return bad_edit(use,
                    fmt::format("the value is used at node {}, which changes it last", graph.finished(use)));
  }
  return {};
}

/// Of several edits of one use, which stand in the order in which they were made.
void keep_last_of_equals(std::vector<RangeEdit>& ranges) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (i + 1 < ranges.size() && ranges[i].use == ranges[i + 1].use) continue;
    ranges[count++] = ranges[i];
  }
  ranges.resize(count);
}

Result<std::vector<RangeEdit>> ranges_of(const ValueGraph& graph, const GraphEdits& edits) {
  std::vector<RangeEdit> ranges;
  ranges.reserve(edits.replaced().size() + edits.dropped().size() + 1);
  for (const auto& [use, value] : edits.replaced()) {
    CKPT_RETURN_IF_ERROR(check_use(graph, use));
    if (value.kind == NewValue::Kind::kMove) CKPT_RETURN_IF_ERROR(check_use(graph, value.moved));
    ranges.push_back({graph.start(use), use, &value, false});
  }
  for (const auto& [maker, value] : edits.remade()) {
    if (maker >= graph.size() || graph.repeats(maker)) return bad_edit(maker, "it makes nothing");
    ranges.push_back({graph.start(maker), maker, &value, true});
  }
  for (const auto use : edits.dropped()) {
    CKPT_RETURN_IF_ERROR(check_use(graph, use));
    ranges.push_back({graph.start(use), use, nullptr, false});
  }
  const auto comes_before = [](const RangeEdit& left, const RangeEdit& right) {
    return left.first != right.first ? left.first < right.first : left.use > right.use;
  };
  if (!std::is_sorted(ranges.begin(), ranges.end(), comes_before))
    std::stable_sort(ranges.begin(), ranges.end(), comes_before);
  keep_last_of_equals(ranges);
  ranges.push_back({});
  return ranges;
}

/// The node that takes the value used at `use` as an operand; kNoUse for the result.
Use operator_of(const ValueGraph& graph, Use use) {
  for (auto node = use + 1; node < graph.size(); ++node) {
    if (graph.start(node) <= use) return node;
  }
  return kNoUse;
}

/// Where operands behind the one used at `use` go.
Result<std::pair<Use, Insertion>> place_behind(const ValueGraph& graph, Use use,
                                               const std::vector<NewValue>& values) {
  CKPT_RETURN_IF_ERROR(check_use(graph, use));
  const auto node = operator_of(graph, use);
  if (node == kNoUse) return bad_edit(use, "nothing follows the result of the pickle");
  std::vector<Use> operands;
  graph.children(node, operands);
  const auto opcode = graph.opcode(node);
  const auto effect = opcode_info(opcode).effect;
  const bool changes = effect == Effect::kExtendOne || effect == Effect::kExtendMark;
  const auto found = std::find(operands.begin() + (changes ? 1 : 0), operands.end(), use);
  const bool mapping = opcode == Opcode::kSetitem || opcode == Opcode::kSetitems || opcode == Opcode::kDict;
  const bool behind_value = (operands.end() - found) % 2 == 1;
  if (found == operands.end()) return bad_edit(use, "it is the container, no item of it");
  if (mapping && (!behind_value || values.size() % 2 != 0))
    return bad_edit(use, "keys and values are inserted together, behind a value");
  switch (opcode) {
    case Opcode::kSetitem:
    case Opcode::kAppend: return std::pair{node, Insertion{&values, opcode, true}};
    case Opcode::kSetitems:
    case Opcode::kDict:
    case Opcode::kAppends:
    case Opcode::kList:
    case Opcode::kTuple:
    case Opcode::kAdditems:
    case Opcode::kFrozenset: return std::pair{use, Insertion{&values, std::nullopt, false}};
    default: return bad_edit(use, fmt::format("{} has a fixed number of operands", opcode_info(opcode).name));
  }
}

/// Where items at the end of the value used at `container` go.
Result<std::pair<Use, Insertion>> place_at_end(const ValueGraph& graph, Use container,
                                               const std::vector<NewValue>& values) {
  CKPT_RETURN_IF_ERROR(check_use(graph, container));
  auto made = container;
  std::vector<Use> operands;
  for (auto effect = opcode_info(graph.opcode(made)).effect;
       effect == Effect::kExtendOne || effect == Effect::kExtendMark;
       effect = opcode_info(graph.opcode(made)).effect) {
    graph.children(made, operands);
    made = operands.front();
  }
  switch (graph.opcode(made)) {
    case Opcode::kEmptyList:
    case Opcode::kList: return std::pair{container, Insertion{&values, Opcode::kAppend, true}};
    case Opcode::kEmptyDict:
    case Opcode::kDict:
    case Opcode::kReduce:
    case Opcode::kNewobj:
      if (values.size() % 2 != 0) return bad_edit(container, "keys and values are appended together");
      return std::pair{container, Insertion{&values, Opcode::kSetitem, true}};
    default: return bad_edit(container, "it is no list and no mapping");
  }
}

/// Behind one node, what belongs to the value it finishes comes first, then what stands behind that value.
Result<Insertions> insertions_of(const ValueGraph& graph, const GraphEdits& edits) {
  Insertions insertions;
  Insertions behind;
  for (const auto& [use, values] : edits.inserted()) {
    CKPT_ASSIGN_OR_RETURN(const auto insertion, place_behind(graph, use, values));
    (insertion.second.of_value ? insertions : behind).insert(insertion);
  }
  for (const auto& [container, values] : edits.appended()) {
    CKPT_ASSIGN_OR_RETURN(const auto insertion, place_at_end(graph, container, values));
    insertions.insert(insertion);
  }
  insertions.insert(behind.begin(), behind.end());
  return insertions;
}

EncodedPickle copy_of(const ValueGraph& graph) {
  PickleWriter writer(graph);
  writer.reserve(graph.text().size());
  writer.copy(0, static_cast<std::uint32_t>(graph.text().size()));
  return std::move(writer).take();
}

}  // namespace

std::uint64_t EncodedPickle::size() const {
  std::uint64_t size = text.size();
  for (const auto& body : bodies) size += body.extent.size;
  return size;
}

Result<EncodedPickle> encode_pickle(const ValueGraph& graph, const GraphEdits& edits) {
  if (edits.empty()) return copy_of(graph);
  if (!graph.irregular().empty()) {
    return Error(ErrorCode::kUnsupported, fmt::format("the pickle cannot be edited: {}", graph.irregular()));
  }
  CKPT_ASSIGN_OR_RETURN(const auto layout, StreamLayout::scan(graph));
  CKPT_ASSIGN_OR_RETURN(auto ranges, ranges_of(graph, edits));
  CKPT_ASSIGN_OR_RETURN(auto insertions, insertions_of(graph, edits));
  return Emission(graph, layout, std::move(ranges), std::move(insertions)).run();
}

}  // namespace ckpt
