// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/restricted_spelling.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "ckpt/pickle/node_set.h"
#include "ckpt/pickle/spelling.h"
#include "ckpt/pickle/text_forms.h"

namespace ckpt {
namespace {

constexpr int kProtocol = 2;

constexpr std::array<std::string_view, 34> kKnownOpcodes = {{
    "APPEND",          "APPENDS", "BINFLOAT",   "BINGET",      "BININT",      "BININT1",    "BININT2",
    "BINPERSID",       "BINPUT",  "BINUNICODE", "BUILD",       "EMPTY_DICT",  "EMPTY_LIST", "EMPTY_SET",
    "EMPTY_TUPLE",     "GLOBAL",  "LONG1",      "LONG_BINGET", "LONG_BINPUT", "MARK",       "NEWFALSE",
    "NEWOBJ",          "NEWTRUE", "NONE",       "PROTO",       "REDUCE",      "SETITEM",    "SETITEMS",
    "SHORT_BINSTRING", "STOP",    "TUPLE",      "TUPLE1",      "TUPLE2",      "TUPLE3",
}};

bool is_known(Opcode opcode) {
  const auto name = opcode_info(opcode).name;
  return std::find(kKnownOpcodes.begin(), kKnownOpcodes.end(), name) != kKnownOpcodes.end();
}

class RestrictedSpelling {
 public:
  explicit RestrictedSpelling(const ValueGraph& graph)
      : graph_(graph), repeated_(graph.size()), hidden_(graph.size()) {}

  Result<EncodedPickle> run() {
    if (!graph_.irregular().empty())
      return Error(ErrorCode::kUnsupported, "the pickle cannot be edited: " + graph_.irregular());
    look_ahead();
    out_.text.reserve(graph_.text().size() * 2);
    put(Opcode::kProto);
    out_.text.push_back(static_cast<std::byte>(kProtocol));
    for (Use node = 0; node < graph_.size(); ++node) {
      if (!hidden_.contains(node)) CKPT_RETURN_IF_ERROR(write(node));
    }
    put(Opcode::kStop);
    return std::move(out_);
  }

 private:
  // ---- what later nodes want of earlier ones

  void look_ahead() {
    for (Use node = 0; node < graph_.size(); ++node) {
      if (graph_.repeats(node)) repeated_.insert(graph_.repeated(node));
      switch (graph_.opcode(node)) {
        case Opcode::kStackGlobal:
          for (const auto operand : operands(node)) hidden_.insert(operand);
          break;
        case Opcode::kList:
        case Opcode::kDict: closers_.emplace(graph_.start(node), node); break;
        case Opcode::kAdditems: {
          auto made = node;
          while (graph_.opcode(made) == Opcode::kAdditems) made = operands(made).front();
          filled_sets_[made] = node;  // the last one counts
          break;
        }
        default: break;
      }
    }
  }

  std::vector<Use> operands(Use node) const {
    std::vector<Use> out;
    graph_.children(node, out);
    return out;
  }

  // ---- nodes

  Status write(Use node) {
    const auto opcode = graph_.opcode(node);
    if (graph_.repeats(node)) return write_get(graph_.repeated(node));
    switch (opcode) {
      case Opcode::kMark: write_mark(node); return {};
      case Opcode::kList:
        if (!operands(node).empty()) put(Opcode::kAppends);
        break;
      case Opcode::kDict:
        if (!operands(node).empty()) put(Opcode::kSetitems);
        break;
      case Opcode::kEmptySet:
        if (filled_sets_.contains(node)) {  // its PUT has to wait
          put_global("__builtin__", "set");
          put(Opcode::kEmptyList);
          return {};
        }
        put(opcode);
        break;
      case Opcode::kAdditems: return write_additems(node);
      case Opcode::kStackGlobal: {
        const auto name = graph_.global(node);
        if (!name || name->module.find('\n') != std::string_view::npos ||
            name->name.find('\n') != std::string_view::npos)
          return unsupported(node, "a global is named at run time");
        put_global(name->module, name->name);
        break;
      }
      default: CKPT_RETURN_IF_ERROR(write_plain(node, opcode));
    }
    remember(node);
    return {};
  }

  void write_mark(Use node) {
    const auto closer = closers_.find(node);
    if (closer != closers_.end()) {
      put(graph_.opcode(closer->second) == Opcode::kList ? Opcode::kEmptyList : Opcode::kEmptyDict);
      if (operands(closer->second).empty()) return;
    }
    put(Opcode::kMark);
  }

  /// The items of a set are put into a list, and the set is made of it behind the last of them.
  Status write_additems(Use node) {
    put(Opcode::kAppends);
    auto made = node;
    while (graph_.opcode(made) == Opcode::kAdditems) made = operands(made).front();
    if (filled_sets_.at(made) != node) return {};
    put(Opcode::kTuple1);
    put(Opcode::kReduce);
    remember(made);
    return {};
  }

  Status write_plain(Use node, Opcode opcode) {
    if (graph_.is_string(node) && opcode != Opcode::kShortBinstring) return write_string(node);
    if (graph_.is_bytes(node)) return write_bytes(node, opcode);
    if (is_known(opcode)) {
      copy(node);
      return {};
    }
    switch (opcode) {
      case Opcode::kInt:
      case Opcode::kLong:
      case Opcode::kLong4:
        if (const auto flag = graph_.boolean(node)) {
          append_boolean(out_.text, *flag, kProtocol);
          return {};
        }
        if (const auto number = graph_.integer(node)) {
          append_integer(out_.text, *number, kProtocol, LongSize::kShortest);
          return {};
        }
        if (opcode != Opcode::kLong4) return write_long(node);
        break;
      case Opcode::kFloat:
        if (const auto number = graph_.floating(node)) {
          append_floating(out_.text, *number, kProtocol);
          return {};
        }
        break;
      default: break;
    }
    return unsupported(node, "it has no other spelling");
  }

  /// Decimal digits past 64 bits.
  Status write_long(Use node) {
    constexpr std::size_t kMostBytes = 255;  // of a LONG1
    auto digits = chop_newline(graph_.operand(node));
    if (digits.ends_with('L')) digits.remove_suffix(1);
    const bool negative = digits.starts_with('-');
    if (negative) digits.remove_prefix(1);
    std::vector<unsigned> bytes;  // from the lowest on
    for (const auto digit : digits) {
      if (digit < '0' || digit > '9') return unsupported(node, "it is no number");
      auto carry = static_cast<unsigned>(digit - '0');
      for (auto& byte : bytes) {
        carry += byte * 10;
        byte = carry & 0xFFU;
        carry >>= 8U;
      }
      if (carry > 0) bytes.push_back(carry);
      if (bytes.size() > kMostBytes) return unsupported(node, "it has more than 255 bytes");
    }
    if (bytes.empty() || bytes.back() >= 0x80) bytes.push_back(0);  // the sign
    if (negative) {
      unsigned carry = 1;
      for (auto& byte : bytes) {
        carry += ~byte & 0xFFU;
        byte = carry & 0xFFU;
        carry >>= 8U;
      }
    }
    if (bytes.size() > kMostBytes) return unsupported(node, "it has more than 255 bytes");
    put(Opcode::kLong1);
    out_.text.push_back(static_cast<std::byte>(bytes.size()));
    for (const auto byte : bytes) out_.text.push_back(static_cast<std::byte>(byte));
    return {};
  }

  Status write_string(Use node) {
    if (const auto* outside = outside_body(node)) {
      put(Opcode::kBinunicode);
      if (outside->extent.size > 0xFFFFFFFFU) return unsupported(node, "it is longer than 4 GiB");
      append_le(out_.text, static_cast<std::uint32_t>(outside->extent.size));
      out_.bodies.push_back({out_.text.size(), outside->extent});
      return {};
    }
    const auto text = graph_.string(node);
    if (!text) return unsupported(node, "it has no other spelling");
    append_string(out_.text, *text, kProtocol);
    return {};
  }

  Status write_bytes(Use node, Opcode opcode) {
    if (outside_body(node) != nullptr) return unsupported(node, "it is 64 KiB or more of bytes");
    const bool is_array = opcode == Opcode::kBytearray8;
    if (is_array) put_global("__builtin__", "bytearray");
    put_global("_codecs", "encode");
    append_string(out_.text, latin1_to_utf8(graph_.operand(node)), kProtocol);
    append_string(out_.text, "latin1", kProtocol);
    put(Opcode::kTuple2);
    put(Opcode::kReduce);
    if (!is_array) return {};
    put(Opcode::kTuple1);
    put(Opcode::kReduce);
    return {};
  }

  /// An instruction that is known, without what follows it.
  void copy(Use node) {
    const auto instruction = graph_.instruction(node);
    append_bytes(out_.text, graph_.text().subspan(graph_.at(node), instruction.size_in_text()));
  }

  const ValueGraph::OutsideBody* outside_body(Use node) const {
    const auto& bodies = graph_.outside_bodies();
    const auto found =
        std::lower_bound(bodies.begin(), bodies.end(), graph_.at(node),
                         [](const ValueGraph::OutsideBody& body, std::uint32_t at) { return body.at < at; });
    return found != bodies.end() && found->at == graph_.at(node) ? &*found : nullptr;
  }

  // ---- the memo

  /// What follows a value that is used again.
  void remember(Use node) {
    if (!repeated_.contains(node)) return;
    const auto slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace(node, slot);
    if (slot < 256) {
      put(Opcode::kBinput);
      out_.text.push_back(static_cast<std::byte>(slot));
    } else {
      put(Opcode::kLongBinput);
      append_le(out_.text, slot);
    }
  }

  Status write_get(Use definition) {
    if (const auto slot = slots_.find(definition); slot != slots_.end()) {
      append_get(out_.text, slot->second, kProtocol);
      return {};
    }
    if (!graph_.is_string(definition)) return unsupported(definition, "a set contains itself");
    CKPT_RETURN_IF_ERROR(write_string(definition));  // it named a global, and is needed once more
    remember(definition);
    return {};
  }

  // ---- text

  void put(Opcode opcode) { out_.text.push_back(static_cast<std::byte>(opcode)); }

  void put_global(std::string_view module, std::string_view name) {
    put(Opcode::kGlobal);
    append_text(out_.text, fmt::format("{}\n{}\n", module, name));
  }

  Error unsupported(Use node, std::string_view why) const {
    return Error(ErrorCode::kUnsupported, fmt::format("the restricted loader does not know {}: {}",
                                                      opcode_info(graph_.opcode(node)).name, why))
        .at(graph_.source_position(graph_.at(node)) - graph_.extent().offset);
  }

  const ValueGraph& graph_;
  EncodedPickle out_;
  NodeSet repeated_;                          ///< by a GET
  NodeSet hidden_;                            ///< names of globals
  std::unordered_map<Use, Use> closers_;      ///< MARK → LIST or DICT
  std::unordered_map<Use, Use> filled_sets_;  ///< EMPTY_SET → its last ADDITEMS
  std::unordered_map<Use, std::uint32_t> slots_;
};

}  // namespace

std::vector<std::string> refused_opcodes(const ValueGraph& graph) {
  std::vector<std::string> out;
  for (std::size_t code = 0; code < kOpcodes.size(); ++code) {
    const auto opcode = static_cast<Opcode>(code);
    if (graph.count(opcode) > 0 && !is_known(opcode)) out.emplace_back(opcode_info(opcode).name);
  }
  return out;
}

Result<EncodedPickle> spell_restricted(const ValueGraph& graph) {
  return RestrictedSpelling(graph).run();
}

}  // namespace ckpt
