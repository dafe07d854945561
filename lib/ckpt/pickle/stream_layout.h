// SPDX-License-Identifier: BSD-3-Clause
// What a pickle holds besides values and an editor must keep right: where its frames lie, and the numbers
// that MEMOIZE gives by counting.
#pragma once

#include <cstdint>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// A FRAME in text positions; its length in the stream counts outside bodies as well.
struct Frame {
  std::uint32_t header = 0;  ///< of the FRAME instruction
  std::uint32_t begin = 0;   ///< behind it
  std::uint32_t end = 0;     ///< behind the last instruction inside
};

class StreamLayout {
 public:
  /// One pass over the instructions; none at all for a stream without FRAME and MEMOIZE.
  /// Errors: kUnsupported for frames that are nested or do not hold whole instructions.
  static Result<StreamLayout> scan(const ValueGraph& graph);

  const std::vector<Frame>& frames() const { return frames_; }  ///< ascending, disjoint

  /// How many MEMOIZE stand in front of `node`: the slot of the next one.
  std::uint32_t memoized_before(const ValueGraph& graph, Use node) const;

 private:
  std::vector<Frame> frames_;
  std::vector<std::uint32_t> memoized_;  ///< MEMOIZEs in front of every 64th node
};

/// The text behind the instruction of `node`, up to the next node's: PUTs, FRAMEs and, at the end, STOP.
/// Calls `visit(position, instruction)` for each instruction.
template <typename Visit>
void for_each_trailing(const ValueGraph& graph, Use node, Visit visit) {
  const auto end = graph.end(node);
  auto position = graph.at(node) + 1;
  if (position == end) return;
  position = graph.at(node) + static_cast<std::uint32_t>(graph.instruction(node).size_in_text());
  while (position < end) {
    Instruction instruction;
    cut_instruction(graph.text().subspan(position), instruction);
    visit(position, instruction);
    position += static_cast<std::uint32_t>(instruction.size_in_text());
  }
}

}  // namespace ckpt
