// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/decoder.h"

#include <algorithm>
#include <memory>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kWindow = 1U << 20U;
constexpr std::uint64_t kReserved = 256 * kWindow;  // a text that may grow to this much never moves

/// Memo slots → nodes. Dense as long as slots come roughly in order; a slot far off (hostile files name
/// 2^31) goes to a table, so memory follows the number of PUTs.
class Memo {
 public:
  /// Sets the slot behind the last one, if it is that and there is room: the usual case.
  bool append(std::uint64_t slot, Use node) {
    if (slot != dense_size_ || slot == dense_room_ || !sparse_.empty()) return false;
    dense_[dense_size_++] = node;
    ++count_;
    return true;
  }

  /// Was the slot free?
  bool put(std::uint64_t slot, Use node) {
    const bool free = get(slot) == kNoUse;
    if (free) ++count_;
    if (slot < dense_size_ || slot <= 2 * count_ + 1024) {
      reach(slot + 1);
      dense_[slot] = node;
    } else {
      sparse_.insert_or_assign(slot, node);
    }
    return free;
  }

  /// The node of a slot that came in order, else kNoUse.
  Use get_dense(std::uint64_t slot) const { return slot < dense_size_ ? dense_[slot] : kNoUse; }

  Use get(std::uint64_t slot) const {
    if (const auto node = get_dense(slot); node != kNoUse) return node;
    if (sparse_.empty()) return kNoUse;
    const auto found = sparse_.find(slot);
    return found == sparse_.end() ? kNoUse : found->second;
  }

  /// Slots that are set: what MEMOIZE counts.
  std::uint64_t count() const { return count_; }

 private:
  void reach(std::uint64_t size) {
    if (size > dense_room_) {
      dense_room_ = std::max(2 * dense_room_, size);
      auto larger = std::make_unique_for_overwrite<Use[]>(dense_room_);
      std::copy_n(dense_.get(), dense_size_, larger.get());
      dense_ = std::move(larger);
    }
    while (dense_size_ < size) dense_[dense_size_++] = kNoUse;
  }

  std::unique_ptr<Use[]> dense_;  // no vector: it would look at its room again at each of nine million PUTs
  std::uint64_t dense_size_ = 0;
  std::uint64_t dense_room_ = 0;
  std::unordered_map<std::uint64_t, Use> sparse_;
  std::uint64_t count_ = 0;
};

bool names_global(Opcode opcode) {
  return opcode == Opcode::kGlobal || opcode == Opcode::kStackGlobal || opcode == Opcode::kInst;
}

}  // namespace

class Decoder {
 public:
  Decoder(const ByteSource& source, Extent range, const DecodeLimits& limits)
      : source_(source), range_(range), limits_(limits), next_read_(range.offset) {}

  Result<ValueGraph> run() {
    while (true) {
      take_usual();
      CKPT_RETURN_IF_ERROR(next_instruction());
      CKPT_RETURN_IF_ERROR(step());
      if (instruction_.opcode == Opcode::kStop) break;
    }
    return finish();
  }

 private:
  struct Value {
    Use node;
    Use start;
  };

  struct Mark {
    std::size_t depth;  ///< values below it
    Use node;
  };

  Error corrupt(std::string message) const { return error(ErrorCode::kCorrupt, std::move(message)); }

  Error error(ErrorCode code, std::string message) const {
    return Error(code, std::move(message)).at(position_ + skipped_);
  }

  /// The instructions that tensors are made of, without a detour, as long as they lie whole in the window and
  /// nothing about them needs a second look. It stops in front of every other, in particular of any that is
  /// wrong: what one means is said below, `step` has the last word on all of them.
  void take_usual() {
    constexpr std::uint64_t kLongestHead = 9;  // BINFLOAT
    const auto* const text = graph_.text_.data();
    const auto size = graph_.text_.size();
    bool last_repeats = graph_.tape_.size() > 0 && graph_.repeats(graph_.tape_.size() - 1);
    while (position_ + kLongestHead < size && graph_.tape_.size() + 1 < limits_.nodes) {
      const auto* const at = text + position_;
      const auto opcode = static_cast<Opcode>(*at);
      std::uint64_t length = 1;
      switch (opcode) {
        case Opcode::kShortBinunicode:
        case Opcode::kBinunicode: {
          const bool is_short = opcode == Opcode::kShortBinunicode;
          const auto head = is_short ? 2U : 5U;
          const std::uint64_t body =
              is_short ? load_le<std::uint8_t>(at + 1) : load_le<std::uint32_t>(at + 1);
          if (body >= kOutsideBody || body + head > size - position_) return;
          length = head + body;
          push_leaf();
          break;
        }
        case Opcode::kBinfloat:
        case Opcode::kBinint:
        case Opcode::kBinint2:
        case Opcode::kBinint1:
        case Opcode::kNone:
        case Opcode::kNewtrue:
        case Opcode::kNewfalse:
        case Opcode::kEmptyTuple:
        case Opcode::kEmptyDict:
        case Opcode::kEmptyList:
          push_leaf();
          length = 1U + opcode_info(opcode).operand_size;
          break;
        case Opcode::kMark: marks_.push_back({stack_.size(), add_node(kNoUse)}); break;
        case Opcode::kBinget:
        case Opcode::kLongBinget: {
          const bool is_short = opcode == Opcode::kBinget;
          const auto slot = is_short ? load_le<std::uint8_t>(at + 1) : load_le<std::uint32_t>(at + 1);
          const auto definition = memo_.get_dense(slot);
          if (definition == kNoUse) return;
          push_leaf(definition);
          count_usual(opcode, is_short ? 2 : 5);
          last_repeats = true;
          continue;
        }
        case Opcode::kBinput:
        case Opcode::kLongBinput: {
          const bool is_short = opcode == Opcode::kBinput;
          const auto slot = is_short ? load_le<std::uint8_t>(at + 1) : load_le<std::uint32_t>(at + 1);
          if (values_above_mark() == 0 || graph_.uses_memoize_) return;
          const auto node = stack_.back().node;
          if (node + 1 != graph_.tape_.size() || last_repeats || !memo_.append(slot, node)) return;
          count_usual(opcode, is_short ? 2 : 5);
          continue;
        }
        case Opcode::kTuple: {
          if (marks_.empty()) return;
          make_from_mark();
          break;
        }
        case Opcode::kTuple1:
        case Opcode::kTuple2:
        case Opcode::kBinpersid:
        case Opcode::kReduce: {
          const std::size_t pops = opcode_info(opcode).pops;
          if (values_above_mark() < pops) return;
          make_from(pops);
          break;
        }
        default: return;
      }
      count_usual(opcode, length);
      last_repeats = false;
    }
  }

  void count_usual(Opcode opcode, std::uint64_t length) {
    ++graph_.counts_[static_cast<std::size_t>(opcode)];
    position_ += length;
  }

  /// The current instruction makes one value of the `count` on top, at least one.
  void make_from(std::size_t count) {
    for (; count > 1; --count) stack_.pop_back();
    auto& value = stack_.back();
    value.node = add_node(value.start);
  }

  /// The current instruction makes one value of all that stand above the last mark.
  void make_from_mark() {
    const auto mark = marks_.back();
    marks_.pop_back();
    stack_.erase(stack_.begin() + static_cast<std::ptrdiff_t>(mark.depth), stack_.end());
    stack_.push_back({add_node(mark.node), mark.node});
  }

  void push_leaf(Use repeated = kNoUse) {
    const auto node = add_node(repeated);
    stack_.push_back({node, node});
  }

  std::size_t values_above_mark() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back().depth); }

  /// Cuts the instruction at `position_`, reading further windows while it is not complete.
  Status next_instruction() {
    while (true) {
      const auto cut = cut_instruction(ByteView(graph_.text_).subspan(position_), instruction_);
      if (cut == Cut::kDone) break;
      if (cut == Cut::kInvalid) return invalid();
      if (graph_.text_.size() - position_ > limits_.line + kOutsideBody) return too_long();
      CKPT_RETURN_IF_ERROR(read_window());
    }
    if (instruction_.body_size > limits_.line && instruction_.head_size == 1) return too_long();
    if (instruction_.outside) return skip_body();
    return {};
  }

  Error too_long() const {
    return error(ErrorCode::kUnsupported,
                 fmt::format("a text operand is longer than {} bytes", limits_.line));
  }

  Error invalid() const {
    const auto byte = static_cast<unsigned>(graph_.text_[position_]);
    if (opcode_info(instruction_.opcode).form == OperandForm::kInvalid) {
      return corrupt(fmt::format("unknown pickle opcode 0x{:02x}", byte));
    }
    return corrupt(fmt::format("{} has a negative length", opcode_info(instruction_.opcode).name));
  }

  Status read_window() {
    const auto left = range_.end() - next_read_;
    if (left == 0) {
      return error(ErrorCode::kCorrupt,
                   position_ == graph_.text_.size()
                       ? std::string("the pickle ends before its STOP")
                       : fmt::format("the pickle ends inside {}", opcode_info(instruction_.opcode).name));
    }
    auto& text = graph_.text_;
    const auto size =
        std::min({left, kWindow, limits_.text - std::min<std::uint64_t>(limits_.text, text.size())});
    if (size == 0) {
      return error(ErrorCode::kUnsupported, fmt::format("the pickle is longer than {} bytes", limits_.text));
    }
    const auto old_size = text.size();
    if (old_size == 0) text.reserve(range_.size <= kReserved ? range_.size : kWindow);
    text.resize(old_size + size);
    CKPT_RETURN_IF_ERROR(source_.read_at(next_read_, std::span(text).subspan(old_size)));
    next_read_ += size;
    return {};
  }

  /// The body of the current instruction stays in the source; reading goes on behind it.
  Status skip_body() {
    auto& text = graph_.text_;
    const auto body_at = position_ + instruction_.head_size;
    const auto loaded = text.size() - body_at;
    const auto start = next_read_ - loaded;
    if (instruction_.body_size > range_.end() - start) {
      return corrupt(fmt::format("{} announces {} bytes, {} are left", opcode_info(instruction_.opcode).name,
                                 instruction_.body_size, range_.end() - start));
    }
    graph_.outside_.push_back({static_cast<std::uint32_t>(position_), {start, instruction_.body_size}});
    if (loaded > instruction_.body_size) {
      text.erase(text.begin() + static_cast<std::ptrdiff_t>(body_at),
                 text.begin() + static_cast<std::ptrdiff_t>(body_at + instruction_.body_size));
    } else {
      text.resize(body_at);
      next_read_ = start + instruction_.body_size;
    }
    return {};
  }

  /// Executes the stack effect of the current instruction and moves behind it.
  Status step() {
    const auto& info = opcode_info(instruction_.opcode);
    ++graph_.counts_[static_cast<std::size_t>(instruction_.opcode)];
    if (names_global(instruction_.opcode)) graph_.globals_.push_back(graph_.tape_.size());
    switch (info.effect) {
      case Effect::kPush: CKPT_RETURN_IF_ERROR(push(info.pops)); break;
      case Effect::kMark: {
        const auto node = add_node(kNoUse);
        marks_.push_back({stack_.size(), node});
        break;
      }
      case Effect::kPushFromMark: CKPT_RETURN_IF_ERROR(push_from_mark()); break;
      case Effect::kExtendOne: CKPT_RETURN_IF_ERROR(extend_one(info.pops)); break;
      case Effect::kExtendMark: CKPT_RETURN_IF_ERROR(extend_mark()); break;
      case Effect::kPut: CKPT_RETURN_IF_ERROR(put()); break;
      case Effect::kGet: CKPT_RETURN_IF_ERROR(get()); break;
      case Effect::kDup:
        CKPT_RETURN_IF_ERROR(need(1));
        stack_.push_back({add_node(origin(stack_.back().node)), graph_.tape_.size() - 1});
        irregular("DUP repeats a value without a memo slot");
        break;
      case Effect::kPop: CKPT_RETURN_IF_ERROR(pop()); break;
      case Effect::kPopMark: CKPT_RETURN_IF_ERROR(pop_mark()); break;
      case Effect::kStop: CKPT_RETURN_IF_ERROR(need(1)); break;
      case Effect::kNothing: CKPT_RETURN_IF_ERROR(header()); break;
    }
    if (graph_.tape_.size() >= limits_.nodes) {
      return error(ErrorCode::kUnsupported, fmt::format("the pickle has more than {} values", limits_.nodes));
    }
    const auto size = instruction_.size_in_text();
    if (instruction_.outside) skipped_ += instruction_.body_size;
    position_ += size;
    return {};
  }

  Use add_node(Use first) {
    const auto node = graph_.tape_.size();
    return graph_.tape_.push(static_cast<std::uint32_t>(position_), first == kNoUse ? node : first);
  }

  /// Are there `count` values above the last mark?
  Status need(std::size_t count) const {
    if (values_above_mark() >= count) return {};
    return corrupt(fmt::format("{} needs {} on the stack, found {}", opcode_info(instruction_.opcode).name,
                               counted(count, "value"), values_above_mark()));
  }

  Status need_mark() const {
    if (!marks_.empty()) return {};
    return corrupt(fmt::format("{} without a MARK", opcode_info(instruction_.opcode).name));
  }

  Status push(std::size_t pops) {
    if (instruction_.opcode == Opcode::kNextBuffer || instruction_.opcode == Opcode::kReadonlyBuffer) {
      return error(ErrorCode::kUnsupported, "the pickle refers to out-of-band buffers, which no file holds");
    }
    if (pops == 0) {
      push_leaf();
      return {};
    }
    CKPT_RETURN_IF_ERROR(need(pops));
    make_from(pops);
    return {};
  }

  Status push_from_mark() {
    CKPT_RETURN_IF_ERROR(need_mark());
    const auto count = values_above_mark();
    if (instruction_.opcode == Opcode::kDict && count % 2 != 0) {
      return corrupt("DICT with an odd number of values");
    }
    if (instruction_.opcode == Opcode::kObj && count == 0) return corrupt("OBJ without a class");
    make_from_mark();
    return {};
  }

  Status extend_one(std::size_t pops) {
    CKPT_RETURN_IF_ERROR(need(pops + 1));
    stack_.resize(stack_.size() - pops);
    change_top();
    return {};
  }

  Status extend_mark() {
    CKPT_RETURN_IF_ERROR(need_mark());
    const auto mark = marks_.back();
    const auto count = stack_.size() - mark.depth;
    if (instruction_.opcode == Opcode::kSetitems && count % 2 != 0) {
      return corrupt("SETITEMS with an odd number of values");
    }
    marks_.pop_back();
    stack_.resize(mark.depth);
    CKPT_RETURN_IF_ERROR(need(1));
    change_top();
    return {};
  }

  /// The top value is changed by the current instruction, which becomes its node.
  void change_top() {
    auto& value = stack_.back();
    if (graph_.repeats(value.node)) irregular("a value is changed through an alias");
    const auto node = add_node(value.start);
    graph_.changes_.emplace_back(value.node, node);
    value.node = node;
  }

  Result<std::uint64_t> slot() const {
    const auto slot = memo_slot(instruction_, ByteView(graph_.text_).subspan(position_));
    if (!slot) return corrupt("a memo slot is no number");
    return *slot;
  }

  Status put() {
    CKPT_RETURN_IF_ERROR(need(1));
    const bool memoize = instruction_.opcode == Opcode::kMemoize;
    std::uint64_t number = memo_.count();
    if (!memoize) {
      CKPT_ASSIGN_OR_RETURN(number, slot());
    }
    if (memo_.count() > 0 && memoize != graph_.uses_memoize_) irregular("MEMOIZE and PUT are mixed");
    graph_.uses_memoize_ = memoize;
    if (stack_.back().node + 1 != graph_.tape_.size()) irregular("a value is memoised late");
    if (graph_.repeats(stack_.back().node)) irregular("an alias is memoised");
    if (!memo_.put(number, origin(stack_.back().node))) irregular("a memo slot is used twice");
    return {};
  }

  /// What an alias repeats, so that no chain of aliases is ever followed.
  Use origin(Use node) const { return graph_.repeats(node) ? graph_.repeated(node) : node; }

  Status get() {
    CKPT_ASSIGN_OR_RETURN(const auto number, slot());
    const auto definition = memo_.get(number);
    if (definition == kNoUse) return corrupt(fmt::format("memo slot {} is read before it is set", number));
    push_leaf(definition);
    return {};
  }

  Status pop() {
    irregular("POP takes a value back");
    if (!marks_.empty() && marks_.back().depth == stack_.size()) {
      add_node(marks_.back().node);
      marks_.pop_back();
      return {};
    }
    CKPT_RETURN_IF_ERROR(need(1));
    add_node(stack_.back().start);
    stack_.pop_back();
    return {};
  }

  Status pop_mark() {
    CKPT_RETURN_IF_ERROR(need_mark());
    irregular("POP_MARK takes values back");
    add_node(marks_.back().node);
    stack_.resize(marks_.back().depth);
    marks_.pop_back();
    return {};
  }

  Status header() {
    if (instruction_.opcode == Opcode::kFrame) {
      graph_.has_frames_ = true;
      return {};
    }
    const auto protocol = static_cast<int>(graph_.text_[position_ + 1]);
    if (protocol > 5) {
      return error(ErrorCode::kUnsupported,
                   fmt::format("pickle protocol {} is not known (0 to 5 are)", protocol));
    }
    if (position_ != 0) irregular("PROTO inside the stream");
    graph_.protocol_ = protocol;
    return {};
  }

  void irregular(const char* why) {
    if (graph_.irregular_.empty()) graph_.irregular_ = why;
  }

  Result<ValueGraph> finish() {
    graph_.root_ = stack_.back().node;
    if (stack_.size() != 1 || !marks_.empty()) irregular("values are left on the stack at STOP");
    if (graph_.root_ + 1 != graph_.tape_.size()) irregular("the last value is not the result");
    auto& text = graph_.text_;
    const auto unread = text.size() - position_;
    graph_.extent_ = {range_.offset, next_read_ - unread - range_.offset};
    text.resize(position_);
    if (text.capacity() > text.size() + text.size() / 8 + kWindow) text.shrink_to_fit();
    point_changes_at_the_last();
    return std::move(graph_);
  }

  /// A value changed many times is one lookup away from its last change. Changes come after what they change,
  /// so going backwards finds the later ones done.
  void point_changes_at_the_last() {
    auto& changes = graph_.changes_;
    std::sort(changes.begin(), changes.end());
    for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
      change->second = graph_.finished(change->second);
    }
  }

  const ByteSource& source_;
  Extent range_;
  DecodeLimits limits_;
  ValueGraph graph_;
  Memo memo_;
  std::vector<Value> stack_;
  std::vector<Mark> marks_;
  Instruction instruction_;
  std::uint64_t position_ = 0;   ///< of the current instruction in the text
  std::uint64_t skipped_ = 0;    ///< bytes of outside bodies so far
  std::uint64_t next_read_ = 0;  ///< source position of the next window
};

Result<ValueGraph> decode_pickle(const ByteSource& source, Extent range, const DecodeLimits& limits) {
  return Decoder(source, range, limits).run();
}

}  // namespace ckpt
