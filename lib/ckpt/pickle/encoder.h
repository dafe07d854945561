// SPDX-License-Identifier: BSD-3-Clause
// ValueGraph and edits → bytes. An unedited graph encodes to its own bytes; with edits, everything between
// them is copied and only what they touch is spelled anew.
//
// Edits name uses, never definitions: what other uses of the same object see stays. A GET whose definition
// an edit took away becomes that definition, and every later GET refers to the new place.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/extent.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// A value to be written in place of another one, or beside others. Spelled as the stream's protocol does,
/// and without a memo slot.
struct NewValue {
  enum class Kind : std::uint8_t {
    kString,   ///< `string`, UTF-8 (surrogatepass): BINUNICODE, SHORT_BINUNICODE, UNICODE
    kInteger,  ///< `integer`
    kBoolean,  ///< `integer`, 0 or 1
    kFloat,    ///< `real`
    kNone,
    kGlobal,        ///< a class or function: `string` is its module and name as GLOBAL has them, a line each
    kTuple,         ///< of `operands`
    kCall,          ///< of the first of two `operands`, with the second, a tuple (REDUCE)
    kPersistentId,  ///< of its one operand (BINPERSID)
    kEmptyDict,
    kFilled,  ///< the first of `operands`, a mapping, with the others as its items, keys and values by turns
    kBuilt,   ///< the first of two `operands`, an object, with the second as its state (BUILD)
    kMove,    ///< the value used at `moved`: its object, with all that later changes it; if it is gone from
              ///< its old place it is written here, else (memoised) a GET
  };
  Kind kind = Kind::kNone;
  std::string string;
  std::int64_t integer = 0;
  Use moved = kNoUse;
  std::vector<NewValue> operands;
  double real = 0;
  bool whole_long = false;  ///< an integer beyond 32 bits has 8 bytes, not as many as it needs

  static NewValue text(std::string value) { return {Kind::kString, std::move(value), 0, kNoUse, {}}; }

  static NewValue number(std::int64_t value) { return {Kind::kInteger, {}, value, kNoUse, {}}; }

  /// As TorchScript wants its numbers.
  static NewValue whole_number(std::int64_t value) {
    auto number = NewValue::number(value);
    number.whole_long = true;
    return number;
  }

  static NewValue floating(double value) { return {Kind::kFloat, {}, 0, kNoUse, {}, value}; }

  static NewValue boolean(bool value) { return {Kind::kBoolean, {}, value ? 1 : 0, kNoUse, {}}; }

  /// Precondition: both are ASCII without line breaks.
  static NewValue global(std::string_view module, std::string_view name) {
    return {Kind::kGlobal, std::string(module) + '\n' + std::string(name) + '\n', 0, kNoUse, {}};
  }

  static NewValue tuple(std::vector<NewValue> items) {
    return {Kind::kTuple, {}, 0, kNoUse, std::move(items)};
  }

  static NewValue empty_dict() { return {Kind::kEmptyDict, {}, 0, kNoUse, {}}; }

  static NewValue call(NewValue function, std::vector<NewValue> arguments) {
    NewValue value{Kind::kCall, {}, 0, kNoUse, {}};
    value.operands.push_back(std::move(function));
    value.operands.push_back(tuple(std::move(arguments)));
    return value;
  }

  static NewValue persistent_id(NewValue id) {
    NewValue value{Kind::kPersistentId, {}, 0, kNoUse, {}};
    value.operands.push_back(std::move(id));
    return value;
  }

  /// `items`: keys and values by turns.
  static NewValue filled(NewValue mapping, std::vector<NewValue> items) {
    items.insert(items.begin(), std::move(mapping));
    return {Kind::kFilled, {}, 0, kNoUse, std::move(items)};
  }

  static NewValue dict(std::vector<NewValue> items) { return filled(empty_dict(), std::move(items)); }

  static NewValue built(NewValue object, NewValue state) {
    NewValue value{Kind::kBuilt, {}, 0, kNoUse, {}};
    value.operands.push_back(std::move(object));
    value.operands.push_back(std::move(state));
    return value;
  }

  static NewValue move_of(Use use) { return {Kind::kMove, {}, 0, use, {}}; }
};

/// Edits of one graph. Uses must not overlap, except that anything inside a dropped or replaced range is gone
/// with it.
class CKPT_EXPORT GraphEdits {
 public:
  /// The value used at `use` (any node that is an operand, with its whole range) becomes `value`.
  /// Of several values for one use the last one counts.
  void replace(Use use, NewValue value) { replaced_.emplace_back(use, std::move(value)); }

  /// Room for so many of them.
  void reserve_replacements(std::size_t count) { replaced_.reserve(count); }

  /// The value that the node `maker` begins to make is made by `value` instead: its slot, its items and
  /// whatever else is put into it later stay. Preconditions: `maker` is the last node of a leaf or a
  /// call; `value` has no operands.
  void remake(Use maker, NewValue value) { remade_.emplace_back(maker, std::move(value)); }

  /// The operand used at `use` disappears: an item of a list, set or tuple-from-mark, or key and value of a
  /// mapping (drop both). A SETITEM, APPEND or group that is left without operands disappears with it.
  void drop(Use use) { dropped_.push_back(use); }

  /// New operands behind the one used at `use`: items of a list or a tuple, or keys and values by turns
  /// behind a value of a mapping. They stay where they are when `use` is dropped, replaced or moved. No moves
  /// among them.
  void insert_after(Use use, std::vector<NewValue> values) { inserted_[use] = std::move(values); }

  /// New items at the end of the list or mapping used at `container`, keys and values by turns. They go with
  /// it where it is moved. No moves among them.
  void append_to(Use container, std::vector<NewValue> values) { appended_[container] = std::move(values); }

  bool empty() const {
    return replaced_.empty() && remade_.empty() && dropped_.empty() && inserted_.empty() && appended_.empty();
  }

  const std::vector<std::pair<Use, NewValue>>& replaced() const { return replaced_; }

  const std::vector<std::pair<Use, NewValue>>& remade() const { return remade_; }

  const std::vector<Use>& dropped() const { return dropped_; }

  const std::map<Use, std::vector<NewValue>>& inserted() const { return inserted_; }

  const std::map<Use, std::vector<NewValue>>& appended() const { return appended_; }

 private:
  std::vector<std::pair<Use, NewValue>> replaced_;
  std::vector<std::pair<Use, NewValue>> remade_;
  std::vector<Use> dropped_;
  std::map<Use, std::vector<NewValue>> inserted_;
  std::map<Use, std::vector<NewValue>> appended_;
};

/// A pickle ready to be written: text with bodies of the source inserted.
struct EncodedPickle {
  struct Body {
    std::uint64_t at = 0;  ///< text position in front of which the body belongs
    Extent extent;         ///< in the source the graph was read from
  };

  Bytes text;
  std::vector<Body> bodies;  ///< ascending

  std::uint64_t size() const;  ///< bytes with the bodies
};

/// Errors: kUnsupported for a graph that is irregular (unless `edits` is empty), kInternal for an edit that
/// leaves no well-formed pickle (a dropped operand of a REDUCE, say).
CKPT_EXPORT Result<EncodedPickle> encode_pickle(const ValueGraph& graph, const GraphEdits& edits);

}  // namespace ckpt
