// SPDX-License-Identifier: BSD-3-Clause
// Paths to values, and what is said of those that lead nowhere.
#include "ckpt/model/lookup.h"

#include <string>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

/// {"w": $, "list": [5, 6], 0: 7, "pair": (8,), "object": device("cuda")} with an attribute "epoch" of 9.
Checkpoint sample() {
  return pickled(
      "EMPTY_DICT; MARK; BINUNICODE w; $; BINUNICODE list; EMPTY_LIST; MARK; BININT1 5; BININT1 6; APPENDS; "
      "BININT1 0; BININT1 7; BINUNICODE pair; BININT1 8; TUPLE1; "
      "BINUNICODE object; GLOBAL torch device; BINUNICODE cuda; TUPLE1; REDUCE; "
      "EMPTY_DICT; BINUNICODE epoch; BININT1 9; SETITEM; BUILD; SETITEMS");
}

/// The number or string that stands at `path`, or the error.
std::string at(const Checkpoint& checkpoint, const std::string& path) {
  const auto found = find_value(checkpoint, path);
  if (!found.ok()) return outcome_of(found);
  const auto& graph = checkpoint.graph();
  if (const auto number = graph.integer(found->value)) return std::to_string(*number);
  return graph.string(found->value).value_or("something else");
}

std::string missing(const std::string& path, const std::string& name) {
  return "not-found: no '" + path + "' in the file: nothing is called '" + name + "' there";
}

std::string too_far(const std::string& path, const std::string& elements) {
  return "not-found: no '" + path + "' in the file: " + elements + " there";
}

}  // namespace

TEST_CASE("every kind of step leads to its value", "[model]") {
  const auto checkpoint = sample();
  const std::vector<std::pair<std::string, std::string>> cases = {{"", "something else"},
                                                                  {"w", "something else"},
                                                                  {"list[0]", "5"},
                                                                  {"list[1]", "6"},
                                                                  {"list[01]", "6"},
                                                                  {"{0}", "7"},
                                                                  {"pair[0]", "8"},
                                                                  {"object@epoch", "9"},
                                                                  {"object<args>[0]", "cuda"},
                                                                  {"object<state>.epoch", "9"}};
  for (const auto& [path, expected] : cases) {
    CAPTURE(path);
    CHECK(at(checkpoint, path) == expected);
  }
}

TEST_CASE("only items of mappings and lists can be dropped", "[model]") {
  const auto checkpoint = sample();
  const auto is_item = [&](const std::string& path) {
    const auto found = find_value(checkpoint, path);
    REQUIRE(found.ok());
    return found->key != kNoUse || found->in_list;
  };
  for (const auto* path : {"w", "list", "list[1]", "{0}", "object@epoch"}) CHECK(is_item(path));
  for (const auto* path : {"", "pair[0]", "object<args>[0]", "object<state>"}) CHECK_FALSE(is_item(path));
}

TEST_CASE("a step that leads nowhere is named, with the nearest key", "[model]") {
  const auto checkpoint = sample();
  for (const auto& [path, name] :
       std::vector<std::pair<std::string, std::string>>{{"unheard_of", "unheard_of"},
                                                        {"list.x", "x"},
                                                        {"{12345}", "12345"},
                                                        {"{None}", "None"},
                                                        {"object@lr", "lr"},
                                                        {"object<args>", "args"},
                                                        {"object<args>.x", "x"},
                                                        {"object<values>", "values"},
                                                        {"list<state>", "state"},
                                                        {"object.epoch", "epoch"},
                                                        {"list[0].x", "x"}}) {
    CAPTURE(path);
    CHECK(at(checkpoint, path) == missing(path, name));
  }
  CHECK(at(checkpoint, "list[2]") == too_far("list[2]", "2 elements"));
  CHECK(at(checkpoint, "pair[1]") == too_far("pair[1]", "1 element"));
  CHECK(at(checkpoint, "w[0]") == too_far("w[0]", "0 elements"));
  CHECK(at(checkpoint, "object<args>[1]") == too_far("object<args>[1]", "1 element"));
  CHECK(at(checkpoint, "lists[0]") == missing("lists[0]", "lists") + "; hint: did you mean 'list'?");
  CHECK(at(checkpoint, "object@epochs") ==
        missing("object@epochs", "epochs") + "; hint: did you mean 'epoch'?");
}

TEST_CASE("an index that no number holds leads nowhere, not to the front", "[model]") {
  const auto checkpoint = sample();
  const std::string huge = "99999999999999999999999";
  const auto list = "list[" + huge + "]";
  CHECK(at(checkpoint, list) == too_far(list, "2 elements"));
  const auto pair = "pair[" + huge + "]";
  CHECK(at(checkpoint, pair) == too_far(pair, "1 element"));
  for (const auto& number : {huge, std::string("18446744073709551615")}) {  // one more than that is 0
    const auto argument = "object<args>[" + number + "]";
    CHECK(at(checkpoint, argument) == too_far(argument, "1 element"));
  }
}

TEST_CASE("what is no path, and files without paths, are said so", "[model]") {
  CHECK(at(sample(), "list[x]") == "usage: 'list[x]' is no path: unexpected text at column 5");
  const auto tensors = checkpoint_of(build_safetensors("w float32 2"));
  CHECK(at(tensors, "w") == "unsupported: no 'w' in the file: it holds tensors and nothing else");
  CHECK(at(tensors, "w[") == "usage: 'w[' is no path: unexpected text at column 2");
}
