// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/opcode.h"

namespace ckpt {
namespace {

using Table = std::array<OpcodeInfo, 256>;

constexpr Table make_table() {
  Table table{};
  auto set = [&](Opcode opcode, OpcodeInfo info) { table[static_cast<std::size_t>(opcode)] = info; };
  using F = OperandForm;
  using E = Effect;
  // opcode, {name, form, operand bytes, effect, pops, protocol}
  set(Opcode::kMark, {"MARK", F::kNone, 0, E::kMark, 0, 0});
  set(Opcode::kStop, {"STOP", F::kNone, 0, E::kStop, 0, 0});
  set(Opcode::kPop, {"POP", F::kNone, 0, E::kPop, 1, 0});
  set(Opcode::kPopMark, {"POP_MARK", F::kNone, 0, E::kPopMark, 0, 1});
  set(Opcode::kDup, {"DUP", F::kNone, 0, E::kDup, 0, 0});
  set(Opcode::kFloat, {"FLOAT", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kInt, {"INT", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kBinint, {"BININT", F::kFixed, 4, E::kPush, 0, 1});
  set(Opcode::kBinint1, {"BININT1", F::kFixed, 1, E::kPush, 0, 1});
  set(Opcode::kLong, {"LONG", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kBinint2, {"BININT2", F::kFixed, 2, E::kPush, 0, 1});
  set(Opcode::kNone, {"NONE", F::kNone, 0, E::kPush, 0, 0});
  set(Opcode::kPersid, {"PERSID", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kBinpersid, {"BINPERSID", F::kNone, 0, E::kPush, 1, 1});
  set(Opcode::kReduce, {"REDUCE", F::kNone, 0, E::kPush, 2, 0});
  set(Opcode::kString, {"STRING", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kBinstring, {"BINSTRING", F::kCounted4s, 4, E::kPush, 0, 1});
  set(Opcode::kShortBinstring, {"SHORT_BINSTRING", F::kCounted1, 1, E::kPush, 0, 1});
  set(Opcode::kUnicode, {"UNICODE", F::kLine, 0, E::kPush, 0, 0});
  set(Opcode::kBinunicode, {"BINUNICODE", F::kCounted4, 4, E::kPush, 0, 1});
  set(Opcode::kAppend, {"APPEND", F::kNone, 0, E::kExtendOne, 1, 0});
  set(Opcode::kBuild, {"BUILD", F::kNone, 0, E::kExtendOne, 1, 0});
  set(Opcode::kGlobal, {"GLOBAL", F::kTwoLines, 0, E::kPush, 0, 0});
  set(Opcode::kDict, {"DICT", F::kNone, 0, E::kPushFromMark, 0, 0});
  set(Opcode::kEmptyDict, {"EMPTY_DICT", F::kNone, 0, E::kPush, 0, 1});
  set(Opcode::kAppends, {"APPENDS", F::kNone, 0, E::kExtendMark, 0, 1});
  set(Opcode::kGet, {"GET", F::kLine, 0, E::kGet, 0, 0});
  set(Opcode::kBinget, {"BINGET", F::kFixed, 1, E::kGet, 0, 1});
  set(Opcode::kInst, {"INST", F::kTwoLines, 0, E::kPushFromMark, 0, 0});
  set(Opcode::kLongBinget, {"LONG_BINGET", F::kFixed, 4, E::kGet, 0, 1});
  set(Opcode::kList, {"LIST", F::kNone, 0, E::kPushFromMark, 0, 0});
  set(Opcode::kEmptyList, {"EMPTY_LIST", F::kNone, 0, E::kPush, 0, 1});
  set(Opcode::kObj, {"OBJ", F::kNone, 0, E::kPushFromMark, 0, 1});
  set(Opcode::kPut, {"PUT", F::kLine, 0, E::kPut, 0, 0});
  set(Opcode::kBinput, {"BINPUT", F::kFixed, 1, E::kPut, 0, 1});
  set(Opcode::kLongBinput, {"LONG_BINPUT", F::kFixed, 4, E::kPut, 0, 1});
  set(Opcode::kSetitem, {"SETITEM", F::kNone, 0, E::kExtendOne, 2, 0});
  set(Opcode::kTuple, {"TUPLE", F::kNone, 0, E::kPushFromMark, 0, 0});
  set(Opcode::kEmptyTuple, {"EMPTY_TUPLE", F::kNone, 0, E::kPush, 0, 1});
  set(Opcode::kSetitems, {"SETITEMS", F::kNone, 0, E::kExtendMark, 0, 1});
  set(Opcode::kBinfloat, {"BINFLOAT", F::kFixed, 8, E::kPush, 0, 1});
  set(Opcode::kProto, {"PROTO", F::kFixed, 1, E::kNothing, 0, 2});
  set(Opcode::kNewobj, {"NEWOBJ", F::kNone, 0, E::kPush, 2, 2});
  set(Opcode::kExt1, {"EXT1", F::kFixed, 1, E::kPush, 0, 2});
  set(Opcode::kExt2, {"EXT2", F::kFixed, 2, E::kPush, 0, 2});
  set(Opcode::kExt4, {"EXT4", F::kFixed, 4, E::kPush, 0, 2});
  set(Opcode::kTuple1, {"TUPLE1", F::kNone, 0, E::kPush, 1, 2});
  set(Opcode::kTuple2, {"TUPLE2", F::kNone, 0, E::kPush, 2, 2});
  set(Opcode::kTuple3, {"TUPLE3", F::kNone, 0, E::kPush, 3, 2});
  set(Opcode::kNewtrue, {"NEWTRUE", F::kNone, 0, E::kPush, 0, 2});
  set(Opcode::kNewfalse, {"NEWFALSE", F::kNone, 0, E::kPush, 0, 2});
  set(Opcode::kLong1, {"LONG1", F::kCounted1, 1, E::kPush, 0, 2});
  set(Opcode::kLong4, {"LONG4", F::kCounted4s, 4, E::kPush, 0, 2});
  set(Opcode::kBinbytes, {"BINBYTES", F::kCounted4, 4, E::kPush, 0, 3});
  set(Opcode::kShortBinbytes, {"SHORT_BINBYTES", F::kCounted1, 1, E::kPush, 0, 3});
  set(Opcode::kShortBinunicode, {"SHORT_BINUNICODE", F::kCounted1, 1, E::kPush, 0, 4});
  set(Opcode::kBinunicode8, {"BINUNICODE8", F::kCounted8, 8, E::kPush, 0, 4});
  set(Opcode::kBinbytes8, {"BINBYTES8", F::kCounted8, 8, E::kPush, 0, 4});
  set(Opcode::kEmptySet, {"EMPTY_SET", F::kNone, 0, E::kPush, 0, 4});
  set(Opcode::kAdditems, {"ADDITEMS", F::kNone, 0, E::kExtendMark, 0, 4});
  set(Opcode::kFrozenset, {"FROZENSET", F::kNone, 0, E::kPushFromMark, 0, 4});
  set(Opcode::kNewobjEx, {"NEWOBJ_EX", F::kNone, 0, E::kPush, 3, 4});
  set(Opcode::kStackGlobal, {"STACK_GLOBAL", F::kNone, 0, E::kPush, 2, 4});
  set(Opcode::kMemoize, {"MEMOIZE", F::kNone, 0, E::kPut, 0, 4});
  set(Opcode::kFrame, {"FRAME", F::kFixed, 8, E::kNothing, 0, 4});
  set(Opcode::kBytearray8, {"BYTEARRAY8", F::kCounted8, 8, E::kPush, 0, 5});
  set(Opcode::kNextBuffer, {"NEXT_BUFFER", F::kNone, 0, E::kPush, 0, 5});
  set(Opcode::kReadonlyBuffer, {"READONLY_BUFFER", F::kNone, 0, E::kPush, 1, 5});
  return table;
}

}  // namespace

constexpr std::array<OpcodeInfo, 256> kOpcodes = make_table();

}  // namespace ckpt
