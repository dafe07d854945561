// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/stream_layout.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace ckpt {
namespace {

constexpr Use kBlock = 64;

/// The text position `length` bytes of stream behind `begin`; nothing where that is inside an outside body or
/// behind the end.
std::optional<std::uint32_t> frame_end(const ValueGraph& graph, std::uint32_t begin, std::uint64_t length) {
  const auto& bodies = graph.outside_bodies();
  auto body = std::lower_bound(bodies.begin(), bodies.end(), begin,
                               [](const auto& left, std::uint32_t position) { return left.at < position; });
  std::uint64_t position = begin;
  for (; body != bodies.end(); ++body) {
    Instruction instruction;
    cut_instruction(graph.text().subspan(body->at), instruction);
    const auto head = body->at + instruction.head_size - position;
    if (length <= body->at - position) break;
    if (length < head + body->extent.size) return std::nullopt;
    length -= head + body->extent.size;
    position += head;
  }
  if (length > graph.text().size() - position) return std::nullopt;
  return static_cast<std::uint32_t>(position + length);
}

/// Meets every instruction of a stream in order and notes its frames.
class FrameFinder {
 public:
  explicit FrameFinder(const ValueGraph& graph) : graph_(graph) {}

  /// Is everything still in order with the instruction at `position`?
  bool visit(std::uint32_t position, const Instruction& instruction) {
    if (!frames_.empty() && position < frames_.back().end) {
      if (instruction.opcode == Opcode::kFrame) return false;
      return position + instruction.size_in_text() <= frames_.back().end;
    }
    if (instruction.opcode != Opcode::kFrame) return true;
    const auto length = load_le<std::uint64_t>(graph_.text().subspan(position + 1).data());
    const auto begin = position + static_cast<std::uint32_t>(instruction.size_in_text());
    const auto end = frame_end(graph_, begin, length);
    if (!end) return false;
    frames_.push_back({position, begin, *end});
    return true;
  }

  std::vector<Frame> take() && { return std::move(frames_); }

 private:
  const ValueGraph& graph_;
  std::vector<Frame> frames_;
};

}  // namespace

Result<StreamLayout> StreamLayout::scan(const ValueGraph& graph) {
  StreamLayout layout;
  if (!graph.has_frames() && !graph.uses_memoize()) return layout;
  FrameFinder frames(graph);
  Use node = 0;
  std::uint32_t memoized = 0;
  const auto size = static_cast<std::uint32_t>(graph.text().size());
  for (std::uint32_t position = 0; position < size;) {
    Instruction instruction;
    cut_instruction(graph.text().subspan(position), instruction);
    if (node < graph.size() && graph.at(node) == position) {
      if (node % kBlock == 0) layout.memoized_.push_back(memoized);
      ++node;
    }
    if (instruction.opcode == Opcode::kMemoize) ++memoized;
    if (!frames.visit(position, instruction)) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("the pickle cannot be edited: its frames do not hold "
                               "whole instructions, see byte {}",
                               graph.source_position(position) - graph.extent().offset));
    }
    position += static_cast<std::uint32_t>(instruction.size_in_text());
  }
  layout.frames_ = std::move(frames).take();
  return layout;
}

std::uint32_t StreamLayout::memoized_before(const ValueGraph& graph, Use node) const {
  auto count = memoized_[node / kBlock];
  for (auto earlier = node - node % kBlock; earlier < node; ++earlier) {
    for_each_trailing(graph, earlier, [&](std::uint32_t, const Instruction& instruction) {
      if (instruction.opcode == Opcode::kMemoize) ++count;
    });
  }
  return count;
}

}  // namespace ckpt
