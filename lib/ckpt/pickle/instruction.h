// SPDX-License-Identifier: BSD-3-Clause
// One instruction of a pickle, cut out of bytes. Lengths are checked against what is there; nothing is
// interpreted.
//
// A body of 64 KiB or more (a string or bytes object) is left outside the text a graph keeps: the
// instruction then consists of opcode and length only. The rule depends on the length alone, so it can be
// applied again to the kept text without a table.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "ckpt/base/bytes.h"
#include "ckpt/pickle/opcode.h"

namespace ckpt {

inline constexpr std::uint64_t kOutsideBody = 64 * 1024;  ///< bytes from which a body stays outside

struct Instruction {
  Opcode opcode = Opcode::kStop;
  std::uint32_t head_size = 1;  ///< bytes of opcode and length prefix
  std::uint64_t body_size = 0;  ///< bytes of operand behind the head, with newlines
  bool outside = false;         ///< the body is not in the text

  std::uint64_t size_in_text() const { return head_size + (outside ? 0 : body_size); }
};

/// How an attempt to cut an instruction ended.
enum class Cut : std::uint8_t {
  kDone,
  kMore,     ///< the bytes end inside the instruction
  kInvalid,  ///< no such opcode, or a negative length
};

/// Cuts the instruction at the front of `text`. On kMore, `instruction` holds what could be told.
inline Cut cut_instruction(ByteView text, Instruction& instruction) {
  if (text.empty()) return Cut::kMore;
  instruction.opcode = static_cast<Opcode>(text[0]);
  const auto& info = opcode_info(instruction.opcode);
  instruction.head_size = 1;
  instruction.body_size = 0;
  instruction.outside = false;
  const auto rest = text.subspan(1);
  auto line_end = [&](std::size_t from) -> std::optional<std::size_t> {
    if (from >= rest.size()) return std::nullopt;
    const void* found = std::memchr(rest.data() + from, '\n', rest.size() - from);
    if (found == nullptr) return std::nullopt;
    return static_cast<std::size_t>(static_cast<const std::byte*>(found) - rest.data()) + 1;
  };
  switch (info.form) {
    case OperandForm::kInvalid: return Cut::kInvalid;
    case OperandForm::kNone: return Cut::kDone;
    case OperandForm::kFixed:
      instruction.body_size = info.operand_size;
      return rest.size() < info.operand_size ? Cut::kMore : Cut::kDone;
    case OperandForm::kLine: {
      const auto end = line_end(0);
      if (!end) return Cut::kMore;
      instruction.body_size = *end;
      return Cut::kDone;
    }
    case OperandForm::kTwoLines: {
      const auto first = line_end(0);
      const auto second = first ? line_end(*first) : std::nullopt;
      if (!second) return Cut::kMore;
      instruction.body_size = *second;
      return Cut::kDone;
    }
    default: break;
  }
  if (rest.size() < info.operand_size) return Cut::kMore;
  instruction.head_size = 1U + info.operand_size;
  std::uint64_t length = 0;
  switch (info.form) {
    case OperandForm::kCounted1: length = load_le<std::uint8_t>(rest.data()); break;
    case OperandForm::kCounted4: length = load_le<std::uint32_t>(rest.data()); break;
    case OperandForm::kCounted4s: {
      const auto signed_length = load_le<std::int32_t>(rest.data());
      if (signed_length < 0) return Cut::kInvalid;
      length = static_cast<std::uint64_t>(signed_length);
      break;
    }
    default: length = load_le<std::uint64_t>(rest.data()); break;
  }
  instruction.body_size = length;
  instruction.outside = length >= kOutsideBody;
  if (instruction.outside) return Cut::kDone;
  return rest.size() - info.operand_size < length ? Cut::kMore : Cut::kDone;
}

}  // namespace ckpt
