// SPDX-License-Identifier: BSD-3-Clause
// A pickle as data: an index over the stream's own bytes. Nothing is executed, resolved or copied.
//
// A pickle is postfix, so a value with all it contains is one contiguous range of instructions:
//
//   text   80 02 | } | q 00 | ( | X "w" | q 01 | K 05 | X "b" | h 01 | u | .
//   node           0          1   2              3      4       5      6
//   first          0          1   2              3      4       2      0
//
// One node per instruction that makes or changes a value, or marks; PUT, MEMOIZE, PROTO and FRAME stand in
// the text behind the node before them and have none. `first` is the node where the value's range starts;
// for GET and DUP, leaves of their own, it is the node they repeat. A node's last operand is the node before
// it, the operand before that ends just in front of the last one's range: children are found walking back.
//
// A use is a position: "this key here" is a node, even where it repeats a string from elsewhere.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/io/extent.h"
#include "ckpt/pickle/instruction.h"

namespace ckpt {

using Use = std::uint32_t;  ///< index of a node: a position in the stream

inline constexpr Use kNoUse = 0xFFFFFFFFU;

/// The tape: 8 bytes a node, in blocks, so that growing never copies. The first blocks come one by one, later
/// ones in slabs of a few megabytes, which can lie on huge pages.
class CKPT_EXPORT NodeTape {
 public:
  struct Node {
    std::uint32_t at;  ///< byte position of the opcode in the text
    Use first;
  };

  Use push(std::uint32_t at, Use first) {
    if (next_ == block_end_) add_block();
    *next_++ = {at, first};
    return size_++;
  }

  const Node& operator[](Use node) const { return blocks_[node / kBlock][node % kBlock]; }

  Use size() const { return size_; }

 private:
  void add_block();

  static constexpr Use kBlock = 65536;
  static constexpr std::size_t kSlab = 16;  ///< blocks
  std::vector<std::unique_ptr<Node[]>> slabs_;
  std::vector<Node*> blocks_;
  Node* next_ = nullptr;  ///< where the next node goes
  Node* block_end_ = nullptr;
  Node* slab_end_ = nullptr;
  Use size_ = 0;
};

/// Module and name as they stand in the stream.
struct GlobalName {
  std::string_view module;
  std::string_view name;
  friend bool operator==(const GlobalName&, const GlobalName&) = default;
};

class CKPT_EXPORT ValueGraph {
 public:
  /// A string or bytes body that stays outside the text.
  struct OutsideBody {
    std::uint32_t at = 0;  ///< position of its instruction in the text
    Extent extent;         ///< in the source the stream was read from
  };

  // ---- the stream
  ByteView text() const { return text_; }  ///< without outside bodies

  const std::vector<OutsideBody>& outside_bodies() const { return outside_; }

  Extent extent() const { return extent_; }  ///< in the source, through STOP

  Use size() const { return tape_.size(); }  ///< nodes

  Use root() const { return root_; }

  int protocol() const { return protocol_; }  ///< of PROTO, 0 where there is none

  bool has_frames() const { return has_frames_; }

  bool uses_memoize() const { return uses_memoize_; }

  /// Why edits are refused, or empty: POP, DUP, a reused memo slot, a value changed through an alias, …
  const std::string& irregular() const { return irregular_; }

  /// How often the stream has that instruction.
  std::uint32_t count(Opcode opcode) const { return counts_[static_cast<std::size_t>(opcode)]; }

  /// Nodes that name a class or a function: GLOBAL, STACK_GLOBAL, INST.
  const std::vector<Use>& global_uses() const { return globals_; }

  // ---- nodes
  std::uint32_t at(Use node) const { return tape_[node].at; }

  /// Text position behind the node's instruction and what follows it without a node (PUTs, FRAMEs).
  std::uint32_t end(Use node) const {
    return node + 1 < size() ? at(node + 1) : static_cast<std::uint32_t>(text_.size());
  }

  Opcode opcode(Use node) const { return static_cast<Opcode>(text_[at(node)]); }

  Instruction instruction(Use node) const;

  /// Is it GET or DUP?
  bool repeats(Use node) const {
    const auto code = opcode(node);
    return code == Opcode::kBinget || code == Opcode::kLongBinget || code == Opcode::kGet ||
           code == Opcode::kDup;
  }

  /// For a GET or DUP, the node it repeats; that one is no GET or DUP.
  Use repeated(Use node) const { return tape_[node].first; }

  /// First node of the value's range; itself for leaves.
  Use start(Use node) const { return repeats(node) ? node : tape_[node].first; }

  /// Drops its operand instead of making a value (POP, POP_MARK).
  bool is_void(Use node) const;

  /// The node that stands for the finished value: what a GET repeats, with all that changed it later.
  Use resolve(Use node) const { return repeats(node) ? resolve_repeated(node) : node; }

  /// The last SETITEMS, APPENDS, BUILD, … that changes the value made at `definition`, or itself.
  Use finished(Use definition) const;

  /// Operands of `node` in stream order, without its mark; the value an EXTEND changes is the first.
  void children(Use node, std::vector<Use>& out) const;

  // ---- leaves; all follow a GET first
  /// A text string (UTF-8 with surrogatepass, Python 2 strings as UTF-8 or else Latin-1).
  /// Nothing for other values and for bodies outside the text.
  std::optional<std::string> string(Use node) const;
  /// The same without a copy, for the forms that are stored as UTF-8; nothing otherwise.
  std::optional<std::string_view> string_view(Use node) const;
  bool is_string(Use node) const;
  bool is_bytes(Use node) const;

  /// Body size in bytes of a string, bytes or long.
  std::uint64_t body_size(Use node) const { return instruction(resolve(node)).body_size; }

  std::optional<std::int64_t> integer(Use node) const;
  std::optional<double> floating(Use node) const;
  std::optional<bool> boolean(Use node) const;

  bool is_none(Use node) const { return opcode(resolve(node)) == Opcode::kNone; }

  /// GLOBAL, STACK_GLOBAL on strings, or INST.
  std::optional<GlobalName> global(Use node) const;
  /// Instruction operand in the text.
  std::string_view operand(Use node) const;

  /// Source position of a text position, for messages.
  std::uint64_t source_position(std::uint32_t text_position) const;

 private:
  friend class Decoder;

  Use resolve_repeated(Use node) const;

  Bytes text_;
  NodeTape tape_;
  std::vector<OutsideBody> outside_;
  std::vector<std::pair<Use, Use>> changes_;  ///< value → the node that changes it last; sorted
  Extent extent_;
  Use root_ = kNoUse;
  int protocol_ = 0;
  bool has_frames_ = false;
  bool uses_memoize_ = false;
  std::string irregular_;
  std::array<std::uint32_t, 256> counts_{};
  std::vector<Use> globals_;
};

}  // namespace ckpt
