// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/emission.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace ckpt {
namespace {

/// What the walk has to do at an opcode besides writing it.
enum class Role : std::uint8_t { kPlain, kGet, kMark, kCall };

constexpr std::array<Role, 256> make_roles() {
  std::array<Role, 256> roles{};
  roles[static_cast<std::size_t>(Opcode::kMark)] = Role::kMark;
  for (const auto opcode :
       {Opcode::kReduce, Opcode::kBuild, Opcode::kNewobj, Opcode::kNewobjEx, Opcode::kObj, Opcode::kInst}) {
    roles[static_cast<std::size_t>(opcode)] = Role::kCall;
  }
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

constexpr std::string_view kNoSlot = "it is moved and stays, without a memo slot";

Error contains_itself() {
  return Error(
      ErrorCode::kUnsupported,
      "the pickle cannot be edited: a value that contains itself through a tuple or a call would lose its "
      "first use");
}

/// The value used at `use` is needed at two places and has to be made before one of them can name it.
Error written_twice(Use use, bool without_slot) {
  return without_slot ? bad_edit(use, kNoSlot) : contains_itself();
}

}  // namespace

Error bad_edit(Use node, std::string_view why) {
  return Error(ErrorCode::kInternal, fmt::format("edit of pickle node {}: {}", node, why));
}

Emission::Emission(const ValueGraph& graph, const StreamLayout& layout, std::vector<RangeEdit> edits,
                   Insertions insertions)
    : graph_(graph),
      layout_(layout),
      edits_(std::move(edits)),
      insertions_(std::move(insertions)),
      anchors_(insertions_.empty() ? 0 : graph.size()),
      protocol_(spoken_protocol(graph)),
      stop_(static_cast<std::uint32_t>(graph.text().size() - 1)),
      writer_(graph),
      written_(graph.size()),
      entered_(graph.size()),
      moved_starts_(graph.size()) {
  for (const auto& [node, insertion] : insertions_) anchors_.insert(node);
}

Result<EncodedPickle> Emission::run() {
  std::uint64_t new_text = 0;
  for (const auto& edit : edits_) new_text += edit.value != nullptr ? edit.value->string.size() + 16 : 0;
  writer_.reserve(graph_.text().size() + new_text);
  ranges_.push_back({0, graph_.root(), 0, 0, false, 0, 0, 0, 0, true});
  while (!ranges_.empty()) CKPT_RETURN_IF_ERROR(is_writing() ? write_on() : advance());
  return std::move(writer_).take();
}

/// Walks the innermost range to its end, or until another one has to be written first.
Status Emission::advance() {
  const auto depth = ranges_.size();
  auto& range = ranges_.back();
  while (true) {
    pass_undisturbed(range);
    if (range.settled != range.next) {
      range.settled = range.next;
      if (!insertions_.empty() && anchors_.contains(range.next - 1))
        CKPT_RETURN_IF_ERROR(insert_behind(range, range.next - 1));
    }
    if (range.next > range.last) break;
    const auto node = range.next;
    const auto& edit = edits_[range.edit];
    const auto moved = moved_starts_.contains(node) ? moved_here(range, node) : moved_.end();
    if (moved != moved_.end() && (edit.first != node || moved->first.second > edit.use)) {
      const auto [place, definition] = *moved;
      if (definition == kNoUse) return bad_edit(place.second, kNoSlot);
      flush(range, graph_.at(node));
      skip_to(range, place.second + 1);
      write_get_of(definition);
      note_unfinished(definition);
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
  hand_on_unfinished();
  return {};
}

/// Goes over nodes up to the next edit that only have to be noted as written: nearly all, where names change
/// and nothing moves. What is left undone here is done step by step.
void Emission::pass_undisturbed(Range& range) {
  if (!moved_.empty() || !insertions_.empty() || pending_.size() > range.pending || graph_.uses_memoize())
    return;
  const auto end = std::min(range.last + 1, edits_[range.edit].first);
  auto node = range.next;
  for (; node < end; ++node) {
    const auto role = kRoles[static_cast<std::size_t>(graph_.opcode(node))];
    if (role == Role::kGet && !written_.contains(graph_.repeated(node))) break;
    if (role == Role::kMark && node + 1 == end) break;  // what follows it may be dropped
    if (!written_.insert(node)) break;
  }
  if (node == range.next) return;
  range.next = node;
  range.settled = node;
  range.kept = true;
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
  if (!written_.insert(node))
    return written_twice(range.last, !range.whole && moved_.at({range.first, range.last}) == kNoUse);
  ++range.next;
  range.kept = true;
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
      if (!moved_.empty() && graph_.finished(graph_.repeated(node)) < node)
        note_unfinished(graph_.repeated(node));
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
    case Role::kCall:
      if (!unfinished_.empty()) CKPT_RETURN_IF_ERROR(check_operands(node));
      break;
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
  if (edit.remade) return remake(range, edit);
  skip_to(range, edit.use + 1);
  if (edit.value != nullptr) return write_value(*edit.value);
  pending_.push_back(edit.use);
  return {};
}

/// Another maker in the place of the old one; the PUT behind it remembers what the new one makes.
Status Emission::remake(Range& range, const RangeEdit& edit) {
  if (!written_.insert(edit.use)) return written_twice(edit.use, false);
  if (graph_.uses_memoize()) range.memoized = memoized_up_to(range, edit.use);
  CKPT_RETURN_IF_ERROR(open_new(*edit.value));
  const auto memoized = range.memoized;
  skip_to(range, edit.use + 1);
  range.memoized = memoized;
  range.kept = true;
  range.copied = behind(edit.use);
  if (graph_.uses_memoize()) count_slots(range, edit.use);
  return {};
}

/// Writes a new value here. Where something is moved into it, the rest follows when that is written.
Status Emission::write_value(const NewValue& value) {
  if (value.kind == NewValue::Kind::kMove) return move(value.moved);
  CKPT_RETURN_IF_ERROR(open_new(value));
  if (value.operands.empty() && value.kind != NewValue::Kind::kTuple) return {};
  writings_.push_back({&value, 0, ranges_.size()});
  return write_on();
}

/// Goes on with the values that are being written in the innermost range.
Status Emission::write_on() {
  while (is_writing()) {
    const auto& value = *writings_.back().value;
    const auto next = writings_.back().next++;
    separate(value, next);
    if (next == value.operands.size()) {
      writings_.pop_back();
      continue;
    }
    const auto& operand = value.operands[next];
    if (operand.kind == NewValue::Kind::kMove) {
      CKPT_RETURN_IF_ERROR(move(operand.moved));
      continue;
    }
    CKPT_RETURN_IF_ERROR(open_new(operand));
    if (!operand.operands.empty() || operand.kind == NewValue::Kind::kTuple)
      writings_.push_back({&operand, 0, ranges_.size()});
  }
  return {};
}

/// What stands in front of a value's operands: all of it where it has none.
Status Emission::open_new(const NewValue& value) {
  auto& text = writer_.text();
  switch (value.kind) {
    case NewValue::Kind::kString:
      if (value.string.size() > std::numeric_limits<std::uint32_t>::max()) {
        return Error(ErrorCode::kUnsupported, "a new string of a pickle is longer than 4 GiB");
      }
      append_string(text, value.string, protocol_);
      return {};
    case NewValue::Kind::kInteger:
      append_integer(text, value.integer, protocol_,
                     value.whole_long ? LongSize::kWhole : LongSize::kShortest);
      return {};
    case NewValue::Kind::kBoolean: append_boolean(text, value.integer != 0, protocol_); return {};
    case NewValue::Kind::kFloat: append_floating(text, value.real, protocol_); return {};
    case NewValue::Kind::kNone: text.push_back(static_cast<std::byte>(Opcode::kNone)); return {};
    case NewValue::Kind::kGlobal:
      text.push_back(static_cast<std::byte>(Opcode::kGlobal));
      append_text(text, value.string);
      return {};
    case NewValue::Kind::kEmptyDict: append_empty_dict(text, protocol_); return {};
    case NewValue::Kind::kTuple: append_tuple_start(text, value.operands.size(), protocol_); return {};
    case NewValue::Kind::kCall:
    case NewValue::Kind::kPersistentId:
    case NewValue::Kind::kFilled:
    case NewValue::Kind::kBuilt: return {};
    case NewValue::Kind::kMove: return bad_edit(value.moved, "it has no place to be moved to");
  }
  return {};
}

/// What stands in front of the operand `next`, or behind the last one.
void Emission::separate(const NewValue& value, std::size_t next) {
  const auto count = value.operands.size();
  auto& text = writer_.text();
  const auto append = [&](Opcode opcode) { text.push_back(static_cast<std::byte>(opcode)); };
  switch (value.kind) {
    case NewValue::Kind::kTuple:
      if (next == count) append_tuple_end(text, count, protocol_);
      break;
    case NewValue::Kind::kCall:
      if (next == count) append(Opcode::kReduce);
      break;
    case NewValue::Kind::kPersistentId:
      if (next == count) append(Opcode::kBinpersid);
      break;
    case NewValue::Kind::kBuilt:
      if (next == count) append(Opcode::kBuild);
      break;
    case NewValue::Kind::kFilled: {
      // groups as Python writes them; protocol 0 has none
      const std::size_t group = protocol_ == 0 ? 2 : 2000;
      const bool ends = next > 1 && ((next - 1) % group == 0 || next == count);
      if (ends) append(protocol_ == 0 ? Opcode::kSetitem : Opcode::kSetitems);
      if (protocol_ > 0 && next < count && next > 0 && (next - 1) % group == 0) append(Opcode::kMark);
      break;
    }
    default: break;
  }
}

/// Writes what is to stand behind `node`, the last one of `range` that was looked at.
Status Emission::insert_behind(Range& range, Use node) {
  const bool at_end =
      !range.whole && node == range.last;  // where the moved value stands now is another place
  const auto [begin, end] = insertions_.equal_range(node);
  for (auto insertion = begin; insertion != end; ++insertion) {
    const auto& [values, closing, of_value] = insertion->second;
    if (of_value ? !range.kept : at_end) continue;
    flush(range, text_end(node));
    const std::size_t item = closing == Opcode::kSetitem ? 2 : 1;
    for (std::size_t i = 0; i < values->size(); ++i) {
      const auto& value = (*values)[i];
      if (value.kind == NewValue::Kind::kMove)
        return bad_edit(value.moved, "nothing can be moved into new operands");
      const auto depth = ranges_.size();
      CKPT_RETURN_IF_ERROR(write_value(value));
      if (ranges_.size() != depth) return bad_edit(node, "nothing can be moved into new operands");
      if (closing && (i + 1) % item == 0) writer_.text().push_back(static_cast<std::byte>(*closing));
    }
  }
  return {};
}

/// Writes the value used at `use` here.
Status Emission::move(Use use) {
  if (graph_.repeats(use)) {
    if (!written_.contains(graph_.repeated(use))) return enter_missing(use);
    write_get_again(use);
    note_unfinished(graph_.repeated(use));
    return {};
  }
  const auto definition = memoised_part(use);
  if (definition != kNoUse && written_.contains(definition)) {
    write_get_of(definition);
    note_unfinished(definition);
    return {};
  }
  if (definition == kNoUse && is_immutable_leaf(graph_, use)) {
    writer_.copy(graph_.at(use), behind(use));
    return {};
  }
  if (written_.contains(use)) return bad_edit(use, kNoSlot);
  return enter(use, definition);
}

/// `node` is the operator of the operands dropped last: do they leave something that makes sense?
Status Emission::settle_drops(Range& range, Use node) {
  const auto dropped = pending_.back();
  std::size_t count = 0;
  while (pending_.size() > range.pending && pending_.back() >= graph_.start(node)) {
    pending_.pop_back();
    ++count;
  }
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

// ------------------------------------------------------------------------------------ ranges that move

/// Begins to write the range that ends with `last` here, away from its place.
Status Emission::enter(Use last, Use definition) {
  if (!entered_.insert(last)) return written_twice(last, definition == kNoUse);
  const auto first = graph_.start(last);
  const auto edit = std::partition_point(edits_.begin(), edits_.end(), [&](const RangeEdit& e) {
    return e.first < first || (e.first == first && e.use >= last);  // that one is about the old place
  });
  moved_.emplace(std::pair{first, last}, definition);
  moved_starts_.insert(first);
  ranges_.push_back({first, last, first, first, false, graph_.at(first),
                     static_cast<std::size_t>(edit - edits_.begin()), pending_.size(), memoized_before(first),
                     false});
  return {};
}

/// Writes the value that `get` repeats, which the output hasn't got.
Status Emission::enter_missing(Use get) {
  const auto definition = graph_.repeated(get);
  return enter(graph_.finished(definition), definition);
}

/// A GET of `definition` was written in front of the innermost range's next node. A container may hold what
/// is filled later; a call takes what is there.
void Emission::note_unfinished(Use definition) {
  if (!written_.contains(graph_.finished(definition)))
    unfinished_.push_back({definition, ranges_.size(), ranges_.back().next - 1});
}

/// A range has ended: what it named that is still not finished is an operand of the one around it.
void Emission::hand_on_unfinished() {
  if (unfinished_.empty()) return;
  std::erase_if(unfinished_,
                [&](const auto& named) { return written_.contains(graph_.finished(named.definition)); });
  for (auto& named : unfinished_) {
    if (named.depth > ranges_.size()) named = {named.definition, ranges_.size(), ranges_.back().next - 1};
  }
}

/// May `node` be called with what was written for it?
Status Emission::check_operands(Use node) const {
  for (const auto& [definition, depth, at] : unfinished_) {
    // A state is looked into as it is, but only at its surface.
    const auto first = graph_.opcode(node) == Opcode::kBuild ? node - 1 : graph_.start(node);
    const bool is_operand = depth == ranges_.size() && at >= first;
    if (is_operand && !written_.contains(graph_.finished(definition))) return contains_itself();
  }
  return {};
}

/// The widest range that starts at `node`, lies within `range` and is written already; the end if there is
/// none.
Emission::MovedRanges::const_iterator Emission::moved_here(const Range& range, Use node) const {
  auto after = moved_.upper_bound({node, range.last});
  while (after != moved_.begin()) {
    const auto moved = std::prev(after);
    const auto [place, definition] = *moved;
    if (place.first != node) break;
    const bool itself = !range.whole && node == range.first && place.second == range.last;
    if (!itself && (definition == kNoUse || written_.contains(definition))) return moved;
    after = moved;
  }
  return moved_.end();
}

}  // namespace ckpt
