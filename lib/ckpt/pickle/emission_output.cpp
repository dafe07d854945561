// SPDX-License-Identifier: BSD-3-Clause
// The part of the encoder that writes: memo slots under their new numbers, kept text with its frames.
#include <algorithm>
#include <limits>
#include <vector>

#include "ckpt/pickle/emission.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt {

void Emission::write_get_of(Use definition) {
  append_get(writer_.text(), slot_in_output(definition), protocol_);
}

/// Does a GET of the stream need another number in the output? Precondition: its slot is filled there.
bool Emission::slot_changed(Use get) const {
  if (!graph_.uses_memoize()) return false;
  const auto slot = named_slot(graph_.at(get));
  return slots_[slot] != slot;
}

/// Writes a GET of the stream, under the same precondition.
void Emission::write_get_again(Use get) {
  if (slot_changed(get)) {
    append_get(writer_.text(), slots_[named_slot(graph_.at(get))], protocol_);
  } else {
    writer_.copy(graph_.at(get), behind(get));
  }
}

/// The slot that the PUT or GET at a text position names.
std::uint64_t Emission::named_slot(std::uint32_t position) const {
  const auto text = graph_.text().subspan(position);
  if (static_cast<Opcode>(text[0]) == Opcode::kBinget)
    return load_le<std::uint8_t>(text.data() + 1);  // most are
  Instruction instruction;
  cut_instruction(text, instruction);
  return memo_slot(instruction, text).value_or(0);  // the decoder has read it before
}

std::uint64_t Emission::slot_in_output(Use definition) const {
  if (graph_.uses_memoize()) return slots_[memoized_before(definition)];
  std::uint64_t slot = 0;
  for_each_trailing(graph_, definition, [&](std::uint32_t position, const Instruction& instruction) {
    if (opcode_info(instruction.opcode).effect == Effect::kPut) slot = named_slot(position);
  });
  return slot;
}

/// The first of the nodes that make up the value used at `use` (its maker and those that change it) with a
/// memo slot; kNoUse if none has one.
Use Emission::memoised_part(Use use) const {
  auto found = kNoUse;
  std::vector<Use> operands;
  while (true) {
    for_each_trailing(graph_, use, [&](std::uint32_t, const Instruction& instruction) {
      if (opcode_info(instruction.opcode).effect == Effect::kPut) found = use;
    });
    const auto effect = opcode_info(graph_.opcode(use)).effect;
    if (effect != Effect::kExtendOne && effect != Effect::kExtendMark) return found;
    graph_.children(use, operands);
    use = operands.front();
  }
}

/// The MEMOIZEs behind a node get their new numbers.
void Emission::count_slots(Range& range, Use node) {
  for_each_trailing(graph_, node, [&](std::uint32_t, const Instruction& instruction) {
    if (instruction.opcode != Opcode::kMemoize) return;
    if (slots_.size() <= range.memoized) slots_.resize(std::size_t{range.memoized} + 1);
    slots_[range.memoized++] = slots_written_++;
  });
}

// ------------------------------------------------------------------------------------------------ text

/// Writes the kept text up to `to`, and so all that comes before the place where something new begins.
void Emission::flush(Range& range, std::uint32_t to) {
  copy(range, range.copied, to);
  range.copied = to;
  while (range.whole && next_boundary() <= to) cross_boundary();
}

/// Leaves out everything up to `next`.
void Emission::skip_to(Range& range, Use next) {
  if (graph_.uses_memoize()) range.memoized = memoized_up_to(range, next);
  range.next = next;
  range.kept = false;
  range.copied = text_end(next - 1);
  // Mostly the next edit is the one; a range full of edits is stepped over in a few strides.
  std::size_t stride = 1;
  while (range.edit + stride < edits_.size() && edits_[range.edit + stride].first < next) stride *= 2;
  const auto from = edits_.begin() + static_cast<std::ptrdiff_t>(range.edit);
  const auto to = edits_.begin() + static_cast<std::ptrdiff_t>(std::min(range.edit + stride, edits_.size()));
  const auto edit = std::partition_point(from, to, [&](const RangeEdit& e) { return e.first < next; });
  range.edit = static_cast<std::size_t>(edit - edits_.begin());
}

/// MEMOIZEs in front of `next`, told from those in front of the range's position.
std::uint32_t Emission::memoized_up_to(const Range& range, Use next) const {
  if (next == graph_.size()) return 0;  // nobody asks any more
  if (next - range.next > 64) return memoized_before(next);
  auto count = range.memoized;
  for (auto node = range.next; node < next; ++node) {
    for_each_trailing(graph_, node, [&](std::uint32_t, const Instruction& instruction) {
      if (instruction.opcode == Opcode::kMemoize) ++count;
    });
  }
  return count;
}

void Emission::copy(const Range& range, std::uint32_t from, std::uint32_t to) {
  if (layout_.frames().empty()) {
    writer_.copy(from, to);
  } else if (range.whole) {
    copy_with_frames(from, to);
  } else {
    copy_without_frames(from, to);
  }
}

/// Where the next frame begins or the current one ends, in positions of the input.
std::uint32_t Emission::next_boundary() const {
  if (frame_ == layout_.frames().size()) return std::numeric_limits<std::uint32_t>::max();
  const auto& frame = layout_.frames()[frame_];
  return in_frame_ ? frame.end : frame.header;
}

/// Opens or closes a frame of the output. Returns the position behind the boundary.
std::uint32_t Emission::cross_boundary() {
  const auto& frame = layout_.frames()[frame_];
  if (!in_frame_) {
    writer_.open_frame();
    in_frame_ = true;
    return frame.begin;
  }
  writer_.close_frame();
  in_frame_ = false;
  ++frame_;
  return frame.end;
}

/// The stream's own text: frames begin and end where they did.
void Emission::copy_with_frames(std::uint32_t from, std::uint32_t to) {
  while (from < to) {
    const auto boundary = next_boundary();
    if (boundary <= from) {
      from = std::max(from, cross_boundary());
      continue;
    }
    const auto stop = std::min(to, boundary);
    writer_.copy(from, stop);
    from = stop;
  }
}

/// Text that lands elsewhere belongs to the frame there.
void Emission::copy_without_frames(std::uint32_t from, std::uint32_t to) {
  const auto& frames = layout_.frames();
  auto frame =
      std::partition_point(frames.begin(), frames.end(), [&](const Frame& f) { return f.header < from; });
  for (; frame != frames.end() && frame->header < to; ++frame) {
    writer_.copy(from, frame->header);
    from = frame->begin;
  }
  writer_.copy(from, to);
}

}  // namespace ckpt
