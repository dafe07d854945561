// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/decoder.h"

#include <string>

#include "support/catch.h"
#include "support/pickle_text.h"

using namespace ckpt;
using namespace ckpt::testing;

namespace {

std::string printed(std::string_view assembly) {
  const auto graph = decode_text(assembly);
  return graph ? print(*graph) : graph.error().text();
}

std::string why_irregular(std::string_view assembly) {
  const auto graph = decode_text(assembly);
  return graph ? graph->irregular() : graph.error().text();
}

std::string repeated(std::string_view text, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += text;
  return out;
}

Bytes bytes_of(std::string_view text) {
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

}  // namespace

TEST_CASE("a pickle is read as a tape of ranges", "[pickle]") {
  CHECK(printed(
            "PROTO 2; EMPTY_DICT; BINPUT 0; MARK; BINUNICODE w; BINPUT 1; BININT1 5; BINUNICODE b; BINGET 1; "
            "SETITEMS; STOP") ==
        "0 EMPTY_DICT, finished 6\n"
        "1 MARK\n"
        "2   BINUNICODE \"w\"\n"
        "3   BININT1 5\n"
        "4   BINUNICODE \"b\"\n"
        "5   BINGET \"w\", repeats 2\n"
        "6 SETITEMS, from 0\n");
  CHECK(printed("PROTO 2; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; BINPUT 3; BINUNICODE k; NONE; "
                "SETITEM; EMPTY_DICT; BUILD; STOP") ==
        "0 GLOBAL collections.OrderedDict\n"
        "1 EMPTY_TUPLE\n"
        "2 REDUCE, from 0, finished 7\n"
        "3 BINUNICODE \"k\"\n"
        "4 NONE None\n"
        "5 SETITEM, from 0, finished 7\n"
        "6 EMPTY_DICT\n"
        "7 BUILD, from 0\n");
  CHECK(printed("PROTO 4; FRAME 8; EMPTY_LIST; MEMOIZE; MARK; SHORT_BINUNICODE a; MEMOIZE; BINGET 1; "
                "APPENDS; STOP") ==
        "0 EMPTY_LIST, finished 4\n"
        "1 MARK\n"
        "2   SHORT_BINUNICODE \"a\"\n"
        "3   BINGET \"a\", repeats 2\n"
        "4 APPENDS, from 0\n");
  CHECK(printed("MARK; MARK; INT 1; TUPLE; LONG 2L; LIST; STOP") ==
        "0 MARK\n1   MARK\n2     INT 1\n3   TUPLE, from 1\n4   LONG 2\n5 LIST, from 0\n");
  CHECK(printed("MARK; INST m C; STOP") == "0 MARK\n1 INST m.C, from 0\n");
}

TEST_CASE("a list that contains itself is a repetition, not a loop", "[pickle]") {
  CHECK(printed("EMPTY_LIST; BINPUT 0; BINGET 0; APPEND; STOP") ==
        "0 EMPTY_LIST, finished 2\n1 BINGET APPEND, repeats 0\n2 APPEND, from 0\n");
  CHECK(printed("EMPTY_DICT; BINPUT 0; BINUNICODE self; BINGET 0; SETITEM; STOP") ==
        "0 EMPTY_DICT, finished 3\n1 BINUNICODE \"self\"\n2 BINGET SETITEM, repeats 0\n3 SETITEM, from 0\n");
}

TEST_CASE("what is wrong with a pickle is said with its place", "[pickle]") {
  const std::pair<const char*, const char*> cases[] = {
      {"PROTO 2; RAW \"\\x1f\"", "byte 2: unknown pickle opcode 0x1f"},
      {"RAW \"\"", "byte 0: the pickle ends before its STOP"},
      {"PROTO 2; NONE", "byte 3: the pickle ends before its STOP"},
      {"NONE; RAW \"X\\x05\\x00\\x00\\x00ab\"", "byte 1: the pickle ends inside BINUNICODE"},
      {"NONE; RAW \"c\"; RAW \"os\\n\"", "byte 1: the pickle ends inside GLOBAL"},
      {"RAW \"T\\xff\\xff\\xff\\xff\"", "byte 0: BINSTRING has a negative length"},
      {"RAW \"\\x8b\\xff\\xff\\xff\\xff\"", "byte 0: LONG4 has a negative length"},
      {"RAW \"\\x8e\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x7fabc\"",
       "byte 0: BINBYTES8 announces 9223372036854775807 bytes, 3 are left"},
      {"RAW \"\\x8b\\xff\\xff\\xff\\x7f\"", "byte 0: LONG4 announces 2147483647 bytes, 0 are left"},
      {"STOP", "byte 0: STOP needs 1 value on the stack, found 0"},
      {"REDUCE; STOP", "byte 0: REDUCE needs 2 values on the stack, found 0"},
      {"NONE; MARK; NONE; REDUCE; STOP", "byte 3: REDUCE needs 2 values on the stack, found 1"},
      {"NONE; TUPLE; STOP", "byte 1: TUPLE without a MARK"},
      {"NONE; POP_MARK; STOP", "byte 1: POP_MARK without a MARK"},
      {"MARK; NONE; APPENDS; STOP", "byte 2: APPENDS needs 1 value on the stack, found 0"},
      {"EMPTY_DICT; MARK; NONE; SETITEMS; STOP", "byte 3: SETITEMS with an odd number of values"},
      {"MARK; NONE; DICT; STOP", "byte 2: DICT with an odd number of values"},
      {"MARK; OBJ; STOP", "byte 1: OBJ without a class"},
      {"BINPUT 0; STOP", "byte 0: BINPUT needs 1 value on the stack, found 0"},
      {"BINGET 7; STOP", "byte 0: memo slot 7 is read before it is set"},
      {"NONE; PUT 1x; STOP", "byte 1: a memo slot is no number"},
      {"NONE; PUT -1; STOP", "byte 1: a memo slot is no number"},
      {"PROTO 6; NONE; STOP", "byte 0: pickle protocol 6 is not known (0 to 5 are)"},
      {"PROTO 255; NONE; STOP", "byte 0: pickle protocol 255 is not known (0 to 5 are)"},
      {"NEXT_BUFFER; STOP", "byte 0: the pickle refers to out-of-band buffers, which no file holds"},
  };
  for (const auto& [assembly, message] : cases) {
    CAPTURE(assembly);
    CHECK(decode_error(assembly) == message);
  }
}

TEST_CASE("errors count the bytes of outside bodies", "[pickle]") {
  CHECK(decode_error("PROTO 3; BINBYTES \"x\"*65536; RAW \"\\x1f\"") ==
        "byte 65543: unknown pickle opcode 0x1f");
  CHECK(decode_error("PROTO 3; BINBYTES \"x\"*2000000; RAW \"\\x1f\"") ==
        "byte 2000007: unknown pickle opcode 0x1f");
}

TEST_CASE("limits end with the number that was exceeded", "[pickle]") {
  DecodeLimits limits;
  limits.nodes = 3;
  CHECK(decode_error("NONE; NONE; NONE; STOP", limits) == "byte 2: the pickle has more than 3 values");
  limits = {};
  limits.text = 4;
  CHECK(decode_error("NONE; NONE; NONE; NONE; STOP", limits) == "byte 4: the pickle is longer than 4 bytes");
  limits = {};
  limits.line = 100;
  CHECK(decode_error("INT \"1\"*200000; STOP", limits) == "byte 0: a text operand is longer than 100 bytes");
}

TEST_CASE("what an editor can't handle makes a pickle irregular", "[pickle]") {
  CHECK(why_irregular("EMPTY_LIST; BINPUT 0; BINGET 0; APPEND; STOP").empty());
  CHECK(why_irregular("NONE; NONE; POP; STOP") == "POP takes a value back");
  CHECK(why_irregular("NONE; MARK; POP; STOP") == "POP takes a value back");
  CHECK(why_irregular("NONE; MARK; NONE; POP_MARK; STOP") == "POP_MARK takes values back");
  CHECK(why_irregular("NONE; DUP; TUPLE2; STOP") == "DUP repeats a value without a memo slot");
  CHECK(why_irregular("NONE; BINPUT 0; BINPUT 0; STOP") == "a memo slot is used twice");
  CHECK(why_irregular("NONE; BINPUT 0; MEMOIZE; STOP") == "MEMOIZE and PUT are mixed");
  CHECK(why_irregular("NONE; BINPUT 0; BINGET 0; BINPUT 1; TUPLE2; STOP") == "an alias is memoised");
  CHECK(why_irregular("EMPTY_LIST; BINPUT 0; BINGET 0; NONE; APPEND; TUPLE2; STOP") ==
        "a value is changed through an alias");
  CHECK(why_irregular("NONE; NONE; STOP") == "values are left on the stack at STOP");
  CHECK(why_irregular("NONE; PROTO 2; STOP") == "PROTO inside the stream");
}

TEST_CASE("bytes behind STOP belong to somebody else", "[pickle]") {
  const auto graph = decode_text("PROTO 2; NONE; STOP; NONE; RAW \"\\x1f\"");
  REQUIRE(graph);
  CHECK(graph->extent() == Extent{0, 4});
}

TEST_CASE("a pickle may stand anywhere in a file", "[pickle]") {
  const MemorySource source("file", assemble("RAW \"junk\"; PROTO 2; BINUNICODE w; STOP; RAW \"more\""));
  const auto graph = decode_pickle(source, {4, source.size() - 4});
  REQUIRE(graph);
  CHECK(graph->extent() == Extent{4, 9});
  CHECK(graph->source_position(graph->at(0)) == 6);
}

TEST_CASE("a body of 64 KiB stays outside, a smaller one doesn't", "[pickle]") {
  const auto small = decode_text("PROTO 3; BINBYTES \"x\"*65535; STOP");
  REQUIRE(small);
  CHECK(small->outside_bodies().empty());
  CHECK(small->text().size() == 2 + 5 + 65535 + 1);
  const auto large = decode_text(
      "PROTO 3; EMPTY_LIST; BINBYTES \"x\"*65536; APPEND; BINUNICODE \"y\"*3000000; APPEND; STOP");
  REQUIRE(large);
  REQUIRE(large->outside_bodies().size() == 2);
  CHECK(large->outside_bodies()[0].extent == Extent{8, 65536});
  CHECK(large->outside_bodies()[1].extent == Extent{8 + 65536 + 1 + 5, 3000000});
  CHECK(large->text().size() == 2 + 1 + 5 + 1 + 5 + 1 + 1);
  CHECK(large->body_size(3) == 3000000);
  CHECK(large->source_position(large->at(4)) == 8 + 65536 + 1 + 5 + 3000000);
}

TEST_CASE("a million nested values need no stack", "[pickle]") {
  const std::size_t depth = 1'000'000;
  const auto lists = decode_bytes(bytes_of(repeated("]", depth) + repeated("a", depth - 1) + "."));
  REQUIRE(lists);
  CHECK(lists->size() == 2 * depth - 1);
  const auto tuples = decode_bytes(bytes_of(repeated("(", depth) + repeated("t", depth) + "."));
  REQUIRE(tuples);
  CHECK(tuples->start(tuples->root()) == 0);
}

TEST_CASE("a value changed a million times is finished in one look", "[pickle]") {
  const std::size_t count = 1'000'000;
  const auto graph =
      decode_bytes(bytes_of(std::string("]q\0", 3) + repeated(std::string("h\0a", 3), count) + "."));
  REQUIRE(graph);
  for (Use node = 0; node < graph->size(); node += 2) REQUIRE(graph->finished(node) == graph->root());
  const auto chain = decode_bytes(bytes_of("N" + repeated("2", count) + repeated("0", count) + "."));
  REQUIRE(chain);
  for (Use node = 1; node <= count; ++node) REQUIRE(chain->repeated(node) == 0);
}

TEST_CASE("a bomb of doublings stays as small as its bytes", "[pickle]") {
  std::string by_memo = "]q";
  by_memo += '\0';
  for (int i = 1; i < 200; ++i) {
    by_memo += std::string("]q") + static_cast<char>(i);
    for (int twice = 0; twice < 2; ++twice) by_memo += std::string("h") + static_cast<char>(i - 1) + "a";
  }
  by_memo += repeated("a", 199) + ".";
  const auto graph = decode_bytes(bytes_of(by_memo));
  REQUIRE(graph);
  CHECK(graph->size() < 1200);
  const auto by_dup = decode_bytes(bytes_of("]" + repeated("2\x86", 100) + "."));
  REQUIRE(by_dup);
  CHECK(by_dup->size() == 201);
}

TEST_CASE("memo slots far apart cost nothing", "[pickle]") {
  std::string text = "N";
  for (std::uint64_t slot = 1000; slot < 0xFFFFFFFFU; slot = slot * 2 + 500)
    text += "p" + std::to_string(slot) + "\n";
  text += std::string("r\xff\xff\xff\x7f", 5) + "j\xff\xff\xff\x7f\x86.";
  const auto graph = decode_bytes(bytes_of(text));  // under the memory limit of the sanitizers' run, if any
  REQUIRE(graph);
  CHECK(graph->repeated(1) == 0);
}
