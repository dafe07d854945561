// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/emission.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

Error cannot_edit(std::string_view why) {
  return Error(ErrorCode::kUnsupported, fmt::format("the pickle cannot be edited: {}", why));
}

Error bad_edit(Use node, std::string_view why) {
  return Error(ErrorCode::kInternal, fmt::format("edit of pickle node {}: {}", node, why));
}

/// What the walk has to do at an opcode besides writing it.
enum class Role : std::uint8_t { kPlain, kGet, kMark };

constexpr std::array<Role, 256> make_roles() {
  std::array<Role, 256> roles{};
  roles[static_cast<std::size_t>(Opcode::kMark)] = Role::kMark;
  for (const auto opcode : {Opcode::kGet, Opcode::kBinget, Opcode::kLongBinget}) {
    roles[static_cast<std::size_t>(opcode)] = Role::kGet;
  }
  return roles;
}

constexpr auto kRoles = make_roles();

/// A value without identity: written twice, nobody can tell.
bool is_immutable_leaf(const ValueGraph& graph, Use node) {
  if (graph.start(node) != node) return false;
  switch (graph.opcode(node)) {
    case Opcode::kEmptyDict:
    case Opcode::kEmptyList:
    case Opcode::kEmptySet:
    case Opcode::kBytearray8:
    case Opcode::kPersid: return false;
    default: return true;
  }
}

}  // namespace

Emission::Emission(const ValueGraph& graph, const StreamLayout& layout, std::vector<RangeEdit> edits)
    : graph_(graph),
      layout_(layout),
      edits_(std::move(edits)),
      spelling_(spelling_of(graph)),
      stop_(static_cast<std::uint32_t>(graph.text().size() - 1)),
      writer_(graph),
      written_(graph.size()),
      entered_(graph.size()),
      moved_starts_(graph.size()) {}

Result<EncodedPickle> Emission::run() {
  std::uint64_t new_text = 0;
  for (const auto& edit : edits_) new_text += edit.value != nullptr ? edit.value->string.size() + 16 : 0;
  writer_.reserve(graph_.text().size() + new_text);
  ranges_.push_back({0, graph_.root(), 0, 0, 0, 0, 0, true});
  while (!ranges_.empty()) CKPT_RETURN_IF_ERROR(advance());
  return std::move(writer_).take();
}

/// Walks the innermost range to its end, or until another one has to be written first.
Status Emission::advance() {
  const auto depth = ranges_.size();
  auto& range = ranges_.back();
  while (range.next <= range.last) {
    const auto node = range.next;
    const auto& edit = edits_[range.edit];
    const auto* moved = moved_starts_.contains(node) ? moved_here(range, node) : nullptr;
    if (moved != nullptr && (edit.first != node || moved->last > edit.use)) {
      if (moved->definition == kNoUse)
        return bad_edit(moved->last, "it is moved and stays, without a memo slot");
      const auto definition = moved->definition;
      const auto last = moved->last;
      flush(range, graph_.at(node));
      skip_to(range, last + 1);
      write_get_of(definition);
    } else if (edit.first == node) {
      CKPT_RETURN_IF_ERROR(apply(edit));
    } else {
      CKPT_RETURN_IF_ERROR(step(range, node, graph_.opcode(node)));
    }
    if (ranges_.size() != depth) return {};  // `range` may be gone
  }
  if (range.whole) return finish_stream();
  flush(range, text_end(range.last));
  ranges_.pop_back();
  return {};
}

Status Emission::finish_stream() {
  auto& range = ranges_.back();
  if (!pending_.empty()) return bad_edit(pending_.back(), "the result of the pickle is dropped");
  flush(range, stop_);
  copy(range, stop_, stop_ + 1);
  while (next_boundary() <= stop_ + 1) cross_boundary();
  ranges_.pop_back();
  return {};
}

/// One node that stays.
Status Emission::step(Range& range, Use node, Opcode opcode) {
  if (!written_.insert(node)) {
    return cannot_edit("a value that contains itself through a tuple or a call would lose its first use");
  }
  ++range.next;
  switch (kRoles[static_cast<std::size_t>(opcode)]) {
    case Role::kGet:
      if (!written_.contains(graph_.repeated(node))) {
        flush(range, graph_.at(node));
        range.copied = behind(node);
        return enter_missing(node);
      }
      if (slot_changed(node)) {
        flush(range, graph_.at(node));
        range.copied = behind(node);
        write_get_again(node);
      }
      return {};
    case Role::kMark: {
      // A group all of whose operands are dropped goes with its MARK: wait for the first one that stays.
      const auto& edit = edits_[range.edit];
      if (edit.first == node + 1 && edit.value == nullptr) {
        flush(range, graph_.at(node));
        writer_.hold_mark();
        range.copied = behind(node);
      }
      return {};
    }
    case Role::kPlain: break;
  }
  if (pending_.size() > range.pending && graph_.start(node) <= pending_.back()) {
    CKPT_RETURN_IF_ERROR(settle_drops(range, node));
  }
  if (graph_.uses_memoize()) count_slots(range, node);
  return {};
}

// ------------------------------------------------------------------------------------------------ edits

Status Emission::apply(const RangeEdit& edit) {
  auto& range = ranges_.back();
  flush(range, graph_.at(edit.first));
  skip_to(range, edit.use + 1);
  if (edit.value != nullptr) return write_value(*edit.value);
  pending_.push_back(edit.use);
  return {};
}

Status Emission::write_value(const NewValue& value) {
  switch (value.kind) {
    case NewValue::Kind::kString:
      if (value.string.size() > std::numeric_limits<std::uint32_t>::max()) {
        return Error(ErrorCode::kUnsupported, "a new string of a pickle is longer than 4 GiB");
      }
      append_string(writer_.text(), value.string, spelling_);
      return {};
    case NewValue::Kind::kInteger: append_integer(writer_.text(), value.integer, spelling_); return {};
    case NewValue::Kind::kNone: writer_.text().push_back(static_cast<std::byte>(Opcode::kNone)); return {};
    case NewValue::Kind::kMove: break;
  }
  return move(value.moved);
}

/// Writes the value used at `use` here.
Status Emission::move(Use use) {
  if (graph_.repeats(use)) {
    if (!written_.contains(graph_.repeated(use))) return enter_missing(use);
    write_get_again(use);
    return {};
  }
  const auto definition = memoised_part(use);
  if (definition != kNoUse && written_.contains(definition)) {
    write_get_of(definition);
    return {};
  }
  if (definition == kNoUse && is_immutable_leaf(graph_, use)) {
    writer_.copy(graph_.at(use), behind(use));
    return {};
  }
  if (written_.contains(use)) return bad_edit(use, "it is moved and stays, without a memo slot");
  return enter(use, definition);
}

/// `node` is the operator of the operands dropped last: do they leave something that makes sense?
Status Emission::settle_drops(Range& range, Use node) {
  const auto dropped = pending_.back();
  std::size_t count = 0;
  for (; pending_.size() > range.pending && pending_.back() >= graph_.start(node); ++count)
    pending_.pop_back();
  const auto opcode = graph_.opcode(node);
  const auto name = opcode_info(opcode).name;
  bool vanishes = false;
  switch (opcode) {
    case Opcode::kAppend:
    case Opcode::kBuild: vanishes = true; break;
    case Opcode::kSetitem:
      if (count != 2) return bad_edit(dropped, "key and value must be dropped together");
      vanishes = true;
      break;
    case Opcode::kSetitems:
    case Opcode::kDict:
      if (count % 2 != 0) return bad_edit(dropped, "key and value must be dropped together");
      [[fallthrough]];
    case Opcode::kAppends:
    case Opcode::kAdditems:
    case Opcode::kTuple:
    case Opcode::kList:
    case Opcode::kFrozenset:
      flush(range, graph_.at(node));  // what stays of the group stands behind its MARK now
      vanishes = opcode_info(opcode).effect == Effect::kExtendMark && writer_.drop_mark();
      break;
    default: return bad_edit(dropped, fmt::format("an operand of {} cannot be dropped", name));
  }
  if (!vanishes) return {};
  flush(range, graph_.at(node));
  range.copied = behind(node);  // a PUT there remembers the container, which is still on top
  return {};
}

// ------------------------------------------------------------------------------- ranges and the memo

/// Begins to write the range that ends with `last` here, away from its place.
Status Emission::enter(Use last, Use definition) {
  if (!entered_.insert(last)) {
    return cannot_edit("a value that contains itself through a tuple or a call would lose its first use");
  }
  const auto first = graph_.start(last);
  const auto edit = std::partition_point(edits_.begin(), edits_.end(), [&](const RangeEdit& e) {
    return e.first < first || (e.first == first && e.use >= last);  // that one is about the old place
  });
  const auto [at, is_new] = moved_at_.try_emplace(first, kNone);
  moved_.push_back({definition, last, at->second});
  at->second = moved_.size() - 1;
  moved_starts_.insert(first);
  ranges_.push_back({first, last, first, graph_.at(first), static_cast<std::size_t>(edit - edits_.begin()),
                     pending_.size(), memoized_before(first), false});
  return {};
}

/// Writes the value that `get` repeats, which the output hasn't got.
Status Emission::enter_missing(Use get) {
  const auto definition = graph_.repeated(get);
  return enter(graph_.finished(definition), definition);
}

/// The widest range that starts at `node`, lies within `range` and is written already.
const Emission::Moved* Emission::moved_here(const Range& range, Use node) const {
  const Moved* widest = nullptr;
  for (auto entry = moved_at_.at(node); entry != kNone; entry = moved_[entry].other) {
    const auto& moved = moved_[entry];
    if (moved.last > range.last) continue;
    if (!range.whole && node == range.first && moved.last == range.last) continue;  // this very range
    if (moved.definition != kNoUse && !written_.contains(moved.definition)) continue;
    if (widest == nullptr || moved.last > widest->last) widest = &moved;
  }
  return widest;
}

void Emission::write_get_of(Use definition) {
  append_get(writer_.text(), slot_in_output(definition), spelling_);
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
    append_get(writer_.text(), slots_[named_slot(graph_.at(get))], spelling_);
  } else {
    writer_.copy(graph_.at(get), behind(get));
  }
}

/// The slot that the PUT or GET at a text position names.
std::uint64_t Emission::named_slot(std::uint32_t position) const {
  Instruction instruction;
  cut_instruction(graph_.text().subspan(position), instruction);
  return memo_slot(instruction, graph_.text().subspan(position))
      .value_or(0);  // the decoder has read it before
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

// ------------------------------------------------------------------------------------------------- text

/// Writes the kept text up to `to`, and so all that comes before the place where something new begins.
void Emission::flush(Range& range, std::uint32_t to) {
  copy(range, range.copied, to);
  range.copied = to;
  while (range.whole && next_boundary() <= to) cross_boundary();
}

/// Leaves out everything up to `next`.
void Emission::skip_to(Range& range, Use next) {
  if (graph_.uses_memoize()) {
    if (next - range.next > 64) {
      range.memoized = next < graph_.size() ? memoized_before(next) : 0;
    } else {
      for (auto node = range.next; node < next; ++node) {
        for_each_trailing(graph_, node, [&](std::uint32_t, const Instruction& instruction) {
          if (instruction.opcode == Opcode::kMemoize) ++range.memoized;
        });
      }
    }
  }
  range.next = next;
  range.copied = text_end(next - 1);
  while (edits_[range.edit].first < next) ++range.edit;
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
