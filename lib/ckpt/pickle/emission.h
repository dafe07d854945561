// SPDX-License-Identifier: BSD-3-Clause
// The encoder at work: one walk over the nodes of a graph that writes them, with edits applied, in an order
// in which every GET finds its slot filled.
//
// The walk goes over the whole stream. Where it meets a GET of something the output has not got (an edit
// took it away, or brought the GET forward), it interrupts itself for another range: that of the missing
// value, with all that changes it later. Where it meets a range that was written this way already, a GET
// takes its place. Each node is thus written once at most, and the work is linear in what is written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/pickle/encoder.h"
#include "ckpt/pickle/node_set.h"
#include "ckpt/pickle/pickle_writer.h"
#include "ckpt/pickle/spelling.h"
#include "ckpt/pickle/stream_layout.h"

namespace ckpt {

/// One edit with its range of nodes. Sorted by `first`, the wider one first.
struct RangeEdit {
  Use first = kNoUse;
  Use use = kNoUse;                 ///< the range's last node
  const NewValue* value = nullptr;  ///< null: dropped
  bool remade = false;              ///< the value's place in the memo and what changes it later stay
};

/// New operands, written behind the text of a node.
struct Insertion {
  const std::vector<NewValue>* values = nullptr;
  /// Follows each item (SETITEM, APPEND); nothing inside a group, whose operator comes later.
  std::optional<Opcode> closing;
  bool of_value = false;  ///< the node makes or changes the container: they go with it. Else they stay there
};

using Insertions = std::multimap<Use, Insertion>;  ///< by the node in front

/// kInternal: an edit that makes no sense at `node`.
Error bad_edit(Use node, std::string_view why);

class Emission {
 public:
  /// `edits` ends with an entry of kNoUse.
  Emission(const ValueGraph& graph, const StreamLayout& layout, std::vector<RangeEdit> edits,
           Insertions insertions);

  Result<EncodedPickle> run();

 private:
  /// A stretch of nodes that is being written. The stream itself is the outermost one.
  struct Range {
    Use first;
    Use last;
    Use next;                ///< the node to look at
    Use settled;             ///< insertions in front of it are written
    bool kept;               ///< the node in front of `next` was written here
    std::uint32_t copied;    ///< kept text from here on is not written yet
    std::size_t edit;        ///< the first edit at or behind `next`
    std::size_t pending;     ///< dropped operands that belong to outer ranges
    std::uint32_t memoized;  ///< MEMOIZEs of the stream in front of `next`
    bool whole;              ///< the stream itself: its frames are followed
  };

  /// A value that a GET names in the output before all that changes it is written.
  struct Unfinished {
    Use definition;
    std::size_t depth;  ///< number of the range, from 1, in which it is named
    Use at;             ///< the node of that range behind which it is
  };

  /// A new value of which operands are still to be written.
  struct Writing {
    const NewValue* value;
    std::size_t next;   ///< the operand
    std::size_t depth;  ///< number of ranges that are open around it
  };

  /// Ranges that are written away from their place, by first and last node: the node in them with a memo
  /// slot, or kNoUse.
  using MovedRanges = std::map<std::pair<Use, Use>, Use>;

  Status advance();
  void pass_undisturbed(Range& range);
  Status step(Range& range, Use node, Opcode opcode);
  Status finish_stream();

  // ---- edits
  Status apply(const RangeEdit& edit);
  Status remake(Range& range, const RangeEdit& edit);
  Status write_value(const NewValue& value);
  Status write_on();

  bool is_writing() const { return !writings_.empty() && writings_.back().depth == ranges_.size(); }

  Status open_new(const NewValue& value);
  void separate(const NewValue& value, std::size_t next);
  Status insert_behind(Range& range, Use node);
  Status move(Use use);
  Status settle_drops(Range& range, Use node);

  // ---- ranges and the memo
  Status enter(Use last, Use definition);
  Status enter_missing(Use get);
  void note_unfinished(Use definition);
  void hand_on_unfinished();
  Status check_operands(Use node) const;
  MovedRanges::const_iterator moved_here(const Range& range, Use node) const;
  void write_get_of(Use definition);
  bool slot_changed(Use get) const;
  void write_get_again(Use get);
  std::uint64_t named_slot(std::uint32_t position) const;
  Use memoised_part(Use use) const;
  void count_slots(Range& range, Use node);
  std::uint64_t slot_in_output(Use definition) const;

  std::uint32_t memoized_up_to(const Range& range, Use next) const;

  std::uint32_t memoized_before(Use node) const {
    return graph_.uses_memoize() ? layout_.memoized_before(graph_, node) : 0;
  }

  // ---- text
  void flush(Range& range, std::uint32_t to);
  void skip_to(Range& range, Use next);

  std::uint32_t text_end(Use node) const { return node + 1 < graph_.size() ? graph_.at(node + 1) : stop_; }

  std::uint32_t behind(Use node) const {
    return graph_.at(node) + static_cast<std::uint32_t>(graph_.instruction(node).size_in_text());
  }

  void copy(const Range& range, std::uint32_t from, std::uint32_t to);
  void copy_with_frames(std::uint32_t from, std::uint32_t to);
  void copy_without_frames(std::uint32_t from, std::uint32_t to);
  std::uint32_t next_boundary() const;
  std::uint32_t cross_boundary();

  const ValueGraph& graph_;
  const StreamLayout& layout_;
  const std::vector<RangeEdit> edits_;
  const Insertions insertions_;
  NodeSet anchors_;  ///< nodes with insertions
  const int protocol_;
  const std::uint32_t stop_;  ///< position of STOP
  PickleWriter writer_;
  std::vector<Range> ranges_;
  std::vector<Writing> writings_;
  std::vector<Use> pending_;  ///< dropped operands whose operator has not come yet
  NodeSet written_;
  NodeSet entered_;  ///< last nodes of ranges that were written away from their place
  NodeSet moved_starts_;
  MovedRanges moved_;
  std::vector<Unfinished> unfinished_;
  std::vector<std::uint32_t> slots_;  ///< MEMOIZE streams: slot in the input → slot in the output
  std::uint32_t slots_written_ = 0;
  std::size_t frame_ = 0;  ///< frame of the layout that is open or comes next
  bool in_frame_ = false;
};

}  // namespace ckpt
