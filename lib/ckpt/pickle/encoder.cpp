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

Result<std::vector<RangeEdit>> ranges_of(const ValueGraph& graph, const GraphEdits& edits) {
  std::vector<RangeEdit> ranges;
  ranges.reserve(edits.replaced().size() + edits.dropped().size() + 1);
  for (const auto& [use, value] : edits.replaced()) {
    CKPT_RETURN_IF_ERROR(check_use(graph, use));
    if (value.kind == NewValue::Kind::kMove) CKPT_RETURN_IF_ERROR(check_use(graph, value.moved));
    ranges.push_back({graph.start(use), use, &value});
  }
  for (const auto use : edits.dropped()) {
    CKPT_RETURN_IF_ERROR(check_use(graph, use));
    ranges.push_back({graph.start(use), use, nullptr});
  }
  std::sort(ranges.begin(), ranges.end(), [](const RangeEdit& left, const RangeEdit& right) {
    return left.first != right.first ? left.first < right.first : left.use > right.use;
  });
  ranges.push_back({});
  return ranges;
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
  return Emission(graph, layout, std::move(ranges)).run();
}

}  // namespace ckpt
