// SPDX-License-Identifier: BSD-3-Clause
// The instructions of the pickle language, protocols 0 to 5, as one table. Source: CPython's
// Lib/pickletools.py, whose names are used here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ckpt {

enum class Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kFloat = 'F',
  kInt = 'I',
  kBinint = 'J',
  kBinint1 = 'K',
  kLong = 'L',
  kBinint2 = 'M',
  kNone = 'N',
  kPersid = 'P',
  kBinpersid = 'Q',
  kReduce = 'R',
  kString = 'S',
  kBinstring = 'T',
  kShortBinstring = 'U',
  kUnicode = 'V',
  kBinunicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kGet = 'g',
  kBinget = 'h',
  kInst = 'i',
  kLongBinget = 'j',
  kList = 'l',
  kEmptyList = ']',
  kObj = 'o',
  kPut = 'p',
  kBinput = 'q',
  kLongBinput = 'r',
  kSetitem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetitems = 'u',
  kBinfloat = 'G',
  kProto = 0x80,
  kNewobj = 0x81,
  kExt1 = 0x82,
  kExt2 = 0x83,
  kExt4 = 0x84,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewtrue = 0x88,
  kNewfalse = 0x89,
  kLong1 = 0x8A,
  kLong4 = 0x8B,
  kBinbytes = 'B',
  kShortBinbytes = 'C',
  kShortBinunicode = 0x8C,
  kBinunicode8 = 0x8D,
  kBinbytes8 = 0x8E,
  kEmptySet = 0x8F,
  kAdditems = 0x90,
  kFrozenset = 0x91,
  kNewobjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kBytearray8 = 0x96,
  kNextBuffer = 0x97,
  kReadonlyBuffer = 0x98,
};

/// How the operand of an instruction is written.
enum class OperandForm : std::uint8_t {
  kInvalid,    ///< no such opcode
  kNone,       ///< the opcode stands alone
  kFixed,      ///< `operand_size` bytes
  kLine,       ///< text up to a newline
  kTwoLines,   ///< two texts, each up to a newline
  kCounted1,   ///< u8 length, then that many bytes
  kCounted4,   ///< u32 length
  kCounted4s,  ///< i32 length, must not be negative
  kCounted8,   ///< u64 length
};

/// What an instruction does to the stack of values.
enum class Effect : std::uint8_t {
  kPush,          ///< pushes a new value; pops `pops` values first
  kMark,          ///< pushes a mark
  kPushFromMark,  ///< pushes a value made of everything above the mark
  kExtendOne,     ///< changes the value below: pops `pops` values above it
  kExtendMark,    ///< changes the value below the mark, pops everything above and the mark
  kPut,           ///< remembers the top value
  kGet,           ///< pushes a remembered value
  kDup,           ///< pushes the top value once more
  kPop,           ///< drops the top value (or a mark)
  kPopMark,       ///< drops everything above the mark, and the mark
  kStop,          ///< ends the stream
  kNothing,       ///< PROTO, FRAME
};

struct OpcodeInfo {
  std::string_view name;  ///< pickletools' name: "BINPUT"; empty for an invalid byte
  OperandForm form = OperandForm::kInvalid;
  std::uint8_t operand_size = 0;  ///< bytes of a kFixed operand, or of the length prefix
  Effect effect = Effect::kNothing;
  std::uint8_t pops = 0;
  std::uint8_t protocol = 0;  ///< the first protocol that has it
};

/// All 256 bytes; unknown ones have the form kInvalid.
extern const std::array<OpcodeInfo, 256> kOpcodes;

inline const OpcodeInfo& opcode_info(Opcode opcode) {
  return kOpcodes[static_cast<std::size_t>(opcode)];
}

}  // namespace ckpt
