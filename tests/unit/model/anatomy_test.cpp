// SPDX-License-Identifier: BSD-3-Clause
// Values taken apart: what a call was made with, and what was put in later, in that order.
#include "ckpt/model/anatomy.h"

#include <string>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

/// The root of the file with its parts: "dict {a: 1, b: 2} [3] (4)", integers and strings only.
std::string taken_apart(std::string_view assembly) {
  const auto checkpoint = pickled(assembly);
  const auto& graph = checkpoint.graph();
  Anatomy anatomy;
  dissect(graph, graph.resolve(graph.root()), anatomy);
  const auto text = [&](Use use) {
    if (const auto number = graph.integer(use)) return std::to_string(*number);
    return graph.string(use).value_or("?");
  };
  std::string out = value_kind_name(anatomy.kind);
  for (const auto& item : anatomy.items) out += ' ' + text(item.key) + '=' + text(item.value);
  for (const auto element : anatomy.elements) out += ' ' + text(element);
  for (const auto state : anatomy.states) out += " state " + text(state);
  return out;
}

}  // namespace

TEST_CASE("items of a mapping that is changed several times are in the order of the changes", "[model]") {
  CHECK(taken_apart("EMPTY_DICT") == "dict");
  CHECK(taken_apart("EMPTY_DICT; BININT1 1; BININT1 2; SETITEM; MARK; BININT1 3; BININT1 4; BININT1 5; "
                    "BININT1 6; SETITEMS; MARK; SETITEMS; BININT1 7; BININT1 8; SETITEM") ==
        "dict 1=2 3=4 5=6 7=8");
  CHECK(taken_apart("MARK; BININT1 1; BININT1 2; DICT; BININT1 3; BININT1 4; SETITEM") == "dict 1=2 3=4");
}

TEST_CASE("elements of a list that is changed several times are in the order of the changes", "[model]") {
  CHECK(taken_apart(
            "MARK; BININT1 1; BININT1 2; LIST; BININT1 3; APPEND; MARK; BININT1 4; BININT1 5; APPENDS") ==
        "list 1 2 3 4 5");
}

TEST_CASE("an object has its items, its elements and its states", "[model]") {
  const std::string call = "GLOBAL collections OrderedDict; ";
  const std::string pair = "MARK; BININT1 1; BININT1 2; LIST; ";
  CHECK(taken_apart(call + "MARK; " + pair + "LIST; TUPLE1; REDUCE; BININT1 3; BININT1 4; SETITEM") ==
        "dict 1=2 3=4");
  CHECK(taken_apart("GLOBAL a B; EMPTY_TUPLE; REDUCE; BININT1 1; BUILD; BININT1 2; APPEND; BININT1 3; "
                    "BUILD") == "object 2 state 1 state 3");
  CHECK(taken_apart("GLOBAL a B; EMPTY_TUPLE; REDUCE; BININT1 1; BININT1 2; SETITEM") == "dict 1=2");
}
