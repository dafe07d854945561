// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/value_graph.h"

#include <string>
#include <vector>

#include "support/catch.h"
#include "support/pickle_text.h"

using namespace ckpt;
using namespace ckpt::testing;

namespace {

/// The result of a pickle that makes one value.
std::string value(std::string_view assembly) {
  const auto graph = decode_text(std::string(assembly) + "; STOP");
  return graph ? print_value(*graph, graph->root()) : graph.error().text();
}

std::vector<Use> children(std::string_view assembly) {
  const auto graph = decode_text(assembly);
  REQUIRE(graph);
  std::vector<Use> out;
  graph->children(graph->root(), out);
  return out;
}

}  // namespace

TEST_CASE("every spelling of a value reads the same", "[pickle]") {
  const std::pair<const char*, const char*> cases[] = {
      {"BININT1 255", "255"},
      {"BININT2 65535", "65535"},
      {"BININT -2", "-2"},
      {"INT 7", "7"},
      {"INT -7", "-7"},
      {"INT 01", "True"},
      {"INT 00", "False"},
      {"INT 0x10", "INT"},
      {"INT 99999999999999999999", "INT"},
      {"LONG 5L", "5"},
      {"LONG 5", "5"},
      {"LONG1 \"\"", "0"},
      {"LONG1 \"\\xff\"", "-1"},
      {"LONG1 \"\\x00\\x80\"", "-32768"},
      {"LONG1 \"\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x7f\"", "9223372036854775807"},
      {"LONG1 \"\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\"", "LONG1"},
      {"LONG1 \"\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\"", "-1"},
      {"LONG4 \"\\x05\"", "5"},
      {"LONG4 \"\\x05\"*70000", "LONG4"},
      {"NEWTRUE", "True"},
      {"NEWFALSE", "False"},
      {"NONE", "None"},
      {"FLOAT 1.5", "1.5"},
      {"FLOAT nan", "nan"},
      {"FLOAT 1.5x", "FLOAT"},
      {"BINFLOAT -0.25", "-0.25"},
      {"BINUNICODE größe", "\"größe\""},
      {"SHORT_BINUNICODE w", "\"w\""},
      {"BINUNICODE8 w", "\"w\""},
      {"BINUNICODE \"w\"*65536", "string of 65,536 bytes"},
      {"UNICODE \"\\\\u20ac\\\\U0001d11e\\xe4\"", "\"€𝄞ä\""},
      {"UNICODE \"a\\\\u00\"", "string of 6 bytes"},
      {"STRING 'w'", "\"w\""},
      {"STRING \"\\\"it's\\\"\"", "\"it's\""},
      {"STRING w", "string of 2 bytes"},
      {"STRING \"'a\\\\x41\\\\101\\\\n\\\\\\\\'\"", "\"aAA\\n\\\\\""},
      {"SHORT_BINSTRING w", "\"w\""},
      {"BINSTRING \"\\xe4\"", "\"ä\""},
      {"SHORT_BINSTRING \"\\xc3\\xa4\"", "\"ä\""},
      {"BINBYTES abc", "3 bytes"},
      {"SHORT_BINBYTES a", "1 byte"},
      {"BINBYTES8 \"x\"*70000", "70,000 bytes"},
      {"BYTEARRAY8 ab", "2 bytes"},
      {"GLOBAL torch._utils _rebuild_tensor_v2", "torch._utils._rebuild_tensor_v2"},
      {"BINUNICODE torch; BINUNICODE float32; STACK_GLOBAL", "torch.float32"},
      {"NONE; BINUNICODE float32; STACK_GLOBAL", "STACK_GLOBAL"},
      {"MARK; INST m C", "m.C"},
      {"PERSID 17", "PERSID"},
      {"EXT1 5", "EXT1"},
  };
  for (const auto& [assembly, expected] : cases) {
    CAPTURE(assembly);
    CHECK(value(assembly) == expected);
  }
}

TEST_CASE("lone surrogates keep their bytes", "[pickle]") {
  const auto graph = decode_text("UNICODE \"\\\\ud800\"; STOP");
  REQUIRE(graph);
  CHECK(graph->string(0) == "\xed\xa0\x80");
  const auto binary = decode_text("BINUNICODE \"\\xed\\xa0\\x80\"; STOP");
  REQUIRE(binary);
  CHECK(binary->string_view(0) == "\xed\xa0\x80");
}

TEST_CASE("questions follow a GET to the finished value", "[pickle]") {
  const auto graph =
      decode_text("EMPTY_LIST; BINPUT 0; BINUNICODE w; BINPUT 1; APPEND; BINGET 0; BINGET 1; TUPLE3; STOP");
  REQUIRE(graph);
  CHECK(graph->resolve(3) == 2);
  CHECK(graph->string(4) == "w");
  CHECK(graph->start(3) == 3);
  CHECK(graph->start(graph->root()) == 0);
}

TEST_CASE("operands come in stream order, without the MARK", "[pickle]") {
  CHECK(children(
            "EMPTY_DICT; MARK; BINUNICODE a; MARK; BININT1 1; TUPLE; BINUNICODE b; NONE; SETITEMS; STOP") ==
        std::vector<Use>{0, 2, 5, 6, 7});
  CHECK(children("EMPTY_LIST; NONE; APPEND; NONE; APPEND; STOP") == std::vector<Use>{2, 3});
  CHECK(children("GLOBAL m f; NONE; TUPLE1; REDUCE; STOP") == std::vector<Use>{0, 2});
  CHECK(children("MARK; TUPLE; STOP").empty());
  CHECK(children("NONE; STOP").empty());
  CHECK(children("MARK; NONE; NONE; POP; NONE; TUPLE; STOP") == std::vector<Use>{1, 4});
}
