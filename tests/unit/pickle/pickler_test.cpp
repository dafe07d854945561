// SPDX-License-Identifier: BSD-3-Clause
// New pickles are those of CPython's pickler, instruction by instruction.
#include "ckpt/pickle/pickler.h"

#include <string>
#include <utility>

#include "support/catch.h"
#include "support/pickle_assembler.h"
#include "support/pickle_text.h"

using namespace ckpt;
using namespace ckpt::testing;

namespace {

/// What `pickle.dumps(dict.fromkeys(map(str, range(count)), 0), 2)` counts: groups, SETITEM, SETITEMS.
std::string groups(std::size_t count, bool of_mapping) {
  Pickler pickler;
  if (of_mapping) {
    pickler.empty_dict();
  } else {
    pickler.empty_list();
  }
  for (std::size_t i = 0; i < count; ++i) {
    pickler.begin_item(i, count);
    if (of_mapping) pickler.string(std::to_string(i));
    pickler.integer(0);
    pickler.end_item(i, count, of_mapping);
  }
  const auto graph = decode_bytes(std::move(pickler).finish());
  REQUIRE(graph.ok());
  const auto one = of_mapping ? Opcode::kSetitem : Opcode::kAppend;
  const auto many = of_mapping ? Opcode::kSetitems : Opcode::kAppends;
  return std::to_string(graph->count(Opcode::kMark)) + " marks, " + std::to_string(graph->count(one)) +
         " single, " + std::to_string(graph->count(many)) + " groups";
}

}  // namespace

TEST_CASE("a new pickle repeats constants and names from the memo", "[pickle]") {
  Pickler pickler;
  pickler.begin_tuple(4);
  const auto slot = pickler.string("w");
  pickler.constant("cpu");
  pickler.begin_tuple(3);
  pickler.constant("cpu");
  pickler.global("torch", "FloatStorage");
  pickler.get(slot);
  pickler.end_tuple(3);
  pickler.begin_tuple(0);
  pickler.end_tuple(0);
  pickler.end_tuple(4);
  CHECK(std::move(pickler).finish() ==
        assemble(
            "PROTO 2; MARK; BINUNICODE \"w\"; BINPUT 0; BINUNICODE \"cpu\"; BINPUT 1; BINGET 1; GLOBAL torch "
            "FloatStorage; BINPUT 2; BINGET 0; TUPLE3; BINPUT 3; EMPTY_TUPLE; TUPLE; BINPUT 4; STOP"));
}

TEST_CASE("items of a new container stand in groups of at most a thousand", "[pickle]") {
  CHECK(groups(0, true) == "0 marks, 0 single, 0 groups");
  CHECK(groups(1, true) == "0 marks, 1 single, 0 groups");
  CHECK(groups(2, true) == "1 marks, 0 single, 1 groups");
  CHECK(groups(999, true) == "1 marks, 0 single, 1 groups");
  CHECK(groups(1000, true) == "2 marks, 0 single, 2 groups");  // the second one is empty
  CHECK(groups(1001, true) == "2 marks, 0 single, 2 groups");
  CHECK(groups(1, false) == "0 marks, 1 single, 0 groups");
  CHECK(groups(1000, false) == "1 marks, 0 single, 1 groups");
  CHECK(groups(2001, false) == "3 marks, 0 single, 3 groups");
}

TEST_CASE("memo slots beyond 255 have the long form", "[pickle]") {
  Pickler pickler;
  pickler.empty_list();
  for (std::size_t i = 0; i < 300; ++i) {
    pickler.begin_item(i, 300);
    pickler.string("x");
    pickler.end_item(i, 300, false);
  }
  const auto graph = decode_bytes(std::move(pickler).finish());
  REQUIRE(graph.ok());
  CHECK(graph->count(Opcode::kBinput) == 256);
  CHECK(graph->count(Opcode::kLongBinput) == 45);
}
