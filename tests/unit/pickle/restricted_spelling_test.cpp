// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/restricted_spelling.h"

#include <string>
#include <utility>

#include "support/catch.h"
#include "support/pickle_text.h"

using namespace ckpt;
using namespace ckpt::testing;

namespace {

/// The pickle without what the restricted loader does not know, or the error.
std::string restricted(std::string_view assembly) {
  const auto source = assemble(assembly);
  const auto graph = decode_bytes(source);
  if (!graph) return graph.error().text();
  const auto pickle = spell_restricted(*graph);
  if (!pickle) return pickle.error().text();
  auto bytes = whole(*pickle, source);
  const auto again = decode_bytes(bytes);
  REQUIRE(again.ok());
  CHECK(refused_opcodes(*again).empty());
  return disassemble(bytes);
}

}  // namespace

TEST_CASE("frames go, and only values that are used again have slots", "[pickle]") {
  CHECK(restricted("PROTO 4; FRAME 17; EMPTY_LIST; MEMOIZE; MARK; SHORT_BINUNICODE \"a\"; MEMOIZE; "
                   "SHORT_BINUNICODE \"b\"; MEMOIZE; BINGET 1; APPENDS; STOP") ==
        "PROTO 2; EMPTY_LIST; MARK; BINUNICODE \"a\"; BINPUT 0; BINUNICODE \"b\"; BINGET 0; APPENDS; STOP");
}

TEST_CASE("a global that was named by strings is named by itself, and its strings stay where they are used",
          "[pickle]") {
  CHECK(restricted(
            "PROTO 4; SHORT_BINUNICODE \"torch\"; MEMOIZE; SHORT_BINUNICODE \"Size\"; MEMOIZE; STACK_GLOBAL; "
            "MEMOIZE; BINGET 0; BINGET 2; BINGET 0; TUPLE3; TUPLE2; STOP") ==
        "PROTO 2; GLOBAL torch Size; BINPUT 0; BINUNICODE \"torch\"; BINPUT 1; BINGET 0; BINGET 1; TUPLE3; "
        "TUPLE2; "
        "STOP");
}

TEST_CASE("bytes are a text of Latin-1 letters", "[pickle]") {
  CHECK(restricted("PROTO 3; SHORT_BINBYTES \"a\\xff\"; STOP") ==
        "PROTO 2; GLOBAL _codecs encode; BINUNICODE \"a\\xc3\\xbf\"; BINUNICODE \"latin1\"; TUPLE2; REDUCE; "
        "STOP");
  CHECK(restricted("PROTO 5; BYTEARRAY8 \"b\"; STOP") ==
        "PROTO 2; GLOBAL __builtin__ bytearray; GLOBAL _codecs encode; BINUNICODE \"b\"; BINUNICODE "
        "\"latin1\"; "
        "TUPLE2; REDUCE; TUPLE1; REDUCE; STOP");
  CHECK(restricted("PROTO 3; BINBYTES \"b\"*70000; STOP") ==
        "byte 2: the restricted loader does not know BINBYTES: it is 64 KiB or more of bytes");
}

TEST_CASE("a set is made of a list of its items", "[pickle]") {
  CHECK(restricted(
            "PROTO 4; EMPTY_SET; MEMOIZE; MARK; BININT1 1; ADDITEMS; MARK; BININT1 2; ADDITEMS; BINGET 0; "
            "TUPLE2; STOP") ==
        "PROTO 2; GLOBAL __builtin__ set; EMPTY_LIST; MARK; BININT1 1; APPENDS; MARK; BININT1 2; APPENDS; "
        "TUPLE1; "
        "REDUCE; BINPUT 0; BINGET 0; TUPLE2; STOP");
  CHECK(restricted("PROTO 4; EMPTY_SET; STOP") == "PROTO 2; EMPTY_SET; STOP");
}

TEST_CASE("lists and dicts made from marks begin empty", "[pickle]") {
  CHECK(restricted("MARK; MARK; INT 1; INT -70000; LIST; MARK; STRING 'k'; UNICODE v; DICT; LIST; STOP") ==
        "PROTO 2; EMPTY_LIST; MARK; EMPTY_LIST; MARK; BININT1 1; BININT -70000; APPENDS; EMPTY_DICT; MARK; "
        "BINUNICODE \"k\"; BINUNICODE \"v\"; SETITEMS; APPENDS; STOP");
  CHECK(restricted("MARK; LIST; STOP") == "PROTO 2; EMPTY_LIST; STOP");
}

TEST_CASE("numbers as text become binary, however long", "[pickle]") {
  CHECK(restricted("INT 01; STOP") == "PROTO 2; NEWTRUE; STOP");
  CHECK(restricted("FLOAT 0.5; STOP") == "PROTO 2; BINFLOAT 0.5; STOP");
  CHECK(restricted("LONG 18446744073709551616L; STOP") ==
        "PROTO 2; LONG1 \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01\"; STOP");
  CHECK(restricted("LONG -9223372036854775809L; STOP") ==
        "PROTO 2; LONG1 \"\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x7f\\xff\"; STOP");
  CHECK(restricted("LONG 9223372036854775808L; STOP") ==
        "PROTO 2; LONG1 \"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x80\\x00\"; STOP");
}

TEST_CASE("what has no other spelling is named", "[pickle]") {
  CHECK(restricted("PROTO 4; MARK; FROZENSET; STOP") ==
        "byte 3: the restricted loader does not know FROZENSET: it has no other spelling");
  CHECK(restricted("NONE; DUP; POP; STOP").starts_with("the pickle cannot be edited: "));
}

TEST_CASE("long texts stay where they are", "[pickle]") {
  CHECK(restricted("PROTO 4; BINUNICODE8 \"x\"*70000; STOP") == "PROTO 2; BINUNICODE \"x\"*70000; STOP");
}
