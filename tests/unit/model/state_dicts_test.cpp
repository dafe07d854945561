// SPDX-License-Identifier: BSD-3-Clause
// What counts as a state dict, and what a user can say about which to edit.
#include "ckpt/model/state_dicts.h"

#include <string>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

/// "path: key key", for every state dict.
Lines state_dicts_of(const Checkpoint& checkpoint) {
  Lines lines;
  for (std::uint32_t dict = 0; dict < checkpoint.state_dicts.size(); ++dict) {
    auto line = checkpoint.path(checkpoint.state_dicts[dict].place) + ":";
    for (std::uint32_t i = 0; i < checkpoint.state_dicts[dict].entries.size(); ++i)
      line += " " + checkpoint.original_name(dict, i);
    lines.push_back(line);
  }
  return lines;
}

/// The same of those that `roots` choose, or the error.
Lines chosen(Checkpoint checkpoint, const Lines& roots) {
  const auto indices = choose_state_dicts(checkpoint, roots);
  if (!indices.ok()) return {outcome_of(indices)};
  const auto all = state_dicts_of(checkpoint);
  Lines lines;
  for (const auto index : *indices) lines.push_back(all[index]);
  return lines;
}

std::string item(const std::string& key, const std::string& value) {
  return "BINUNICODE " + key + "; " + value + "; ";
}

std::string dict(const std::string& items) {
  return "EMPTY_DICT; MARK; " + items + "SETITEMS";
}

}  // namespace

TEST_CASE("a mapping of strings to tensors is a state dict, wherever strings lead to it", "[model]") {
  const std::vector<std::pair<const char*, Lines>> cases = {
      {"b float32 2; a float32 2", {": b a"}},
      {"model/w float32 2; epoch = 3", {"model: w"}},
      {"a/b/w float32 2; a/c/v float32 2", {"a.b: w", "a.c: v"}},
      {"w float32 2; m._extra_state = 5; v float32 2", {": w m._extra_state v"}},
      {"m._extra_state = 5", {}},
      {"epoch = 3", {}},
      // a mapping with anything else is none, but for the root where there is no other
      {"model/w float32 2; model/epoch = 3", {}},
      {"w float32 2; epoch = 3; v float32 2", {": w v"}},
      {"w float32 2; model/v float32 2", {"model: v"}},
  };
  for (const auto& [description, expected] : cases) {
    CAPTURE(description);
    CHECK(state_dicts_of(described(description)) == expected);
  }
}

TEST_CASE("what an optimizer keeps is no state dict", "[model]") {
  CHECK(state_dicts_of(described("o/state/w float32 2; o/param_groups = 1; model/w float32 2")) ==
        Lines{"model: w"});
  CHECK(state_dicts_of(described("state/w float32 2; param_groups = 1")).empty());
  CHECK(state_dicts_of(described("o/state/w float32 2; model/w float32 2")) ==
        Lines{"o.state: w", "model: w"});
}

TEST_CASE("keys that are no strings, and lists on the way, make no state dict", "[model]") {
  CHECK(state_dicts_of(pickled(dict("BININT1 1; $; " + item("w", "$")))).empty());
  CHECK(state_dicts_of(pickled(dict(item("model", dict("BININT1 1; $; ")) + item("w", "$")))) ==
        Lines{": w"});
  CHECK(state_dicts_of(pickled("EMPTY_LIST; " + dict(item("w", "$")) + "; APPEND")).empty());
  CHECK(state_dicts_of(pickled(dict("BININT1 7; " + dict(item("w", "$")) + "; "))).empty());
}

TEST_CASE("without a root all state dicts are chosen, with roots those, once each", "[model]") {
  const auto* description = "model/w float32 2; ema/w float32 2; epoch = 3";
  CHECK(chosen(described(description), {}) == Lines{"model: w", "ema: w"});
  CHECK(chosen(described(description), {"ema"}) == Lines{"ema: w"});
  CHECK(chosen(described(description), {"ema", "model", "ema"}) == Lines{"ema: w", "model: w"});
}

TEST_CASE("a root may be any mapping with string keys", "[model]") {
  const auto* description = "w float32 2; model/v float32 2; epoch = 3";
  CHECK(chosen(described(description), {""}) == Lines{": w"});
  CHECK(chosen(described("model/w float32 2; model/epoch = 3"), {"model"}) == Lines{"model: w"});
  CHECK(chosen(described("o/state/w float32 2; o/param_groups = 1"), {"o.state"}) == Lines{"o.state: w"});
  CHECK(chosen(pickled("EMPTY_LIST; " + dict(item("w", "$")) + "; APPEND"), {"[0]"}) == Lines{"[0]: w"});
}

TEST_CASE("a file without a state dict is told by the mappings that hold tensors", "[model]") {
  const std::string hint = "; hint: name a mapping with --root PATH";
  CHECK(chosen(described("epoch = 3"), {}) ==
        Lines{"not-found: no state dict in the file; no mapping of the file holds tensors" + hint});
  CHECK(
      chosen(described("state/w float32 2; state/v float32 2; param_groups = 1"), {}) ==
      Lines{"not-found: no state dict in the file; mappings that hold tensors: 'state' (2 tensors)" + hint});
  CHECK(chosen(pickled(dict("BININT1 1; $; ")), {}) ==
        Lines{"not-found: no state dict in the file; mappings that hold tensors: the root (1 tensor, keys "
              "that are no "
              "strings)" +
              hint});
}

TEST_CASE("a root that is no mapping with string keys is an error that lists what holds tensors", "[model]") {
  const std::string rest = "; mappings that hold tensors: 'model' (1 tensor)";
  for (const auto* root : {"mode", "model.w", "epoch", "model.", "w"}) {
    CHECK(chosen(described("model/w float32 2; epoch = 3"), {"model", root}) ==
          Lines{"not-found: no mapping with string keys at '" + std::string(root) + "'" + rest});
  }
  CHECK(chosen(pickled(dict("BININT1 1; $; ")), {""}) ==
        Lines{"not-found: no mapping with string keys at the root; mappings that hold tensors: the root (1 "
              "tensor, keys that "
              "are no strings)"});
}

TEST_CASE("of many mappings that hold tensors ten are listed", "[model]") {
  std::string description;
  for (int i = 10; i < 22; ++i) description += "m" + std::to_string(i) + "/w float32 2;";
  const auto error = chosen(described(description), {"nope"}).front();
  CHECK(error.find("'m19' (1 tensor)") != error.npos);
  CHECK(error.find("'m20'") == error.npos);
}

TEST_CASE("a module's tables hold what stands under their keys, nothing beside it", "[model]") {
  const auto module = [](const std::string& parameters, const std::string& modules) {
    return "GLOBAL torch.nn.modules.linear Linear; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; "
           "BINUNICODE _parameters; " +
           parameters + "; BINUNICODE _buffers; EMPTY_DICT; BINUNICODE _modules; " + modules +
           "; SETITEMS; BUILD";
  };
  const std::string argument = "GLOBAL collections OrderedDict; $; TUPLE1; REDUCE";
  const std::string attribute =
      "GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; " + dict(item("x", "$")) + "; BUILD";
  const auto table = dict(item("w", "$"));
  const auto of_two = "GLOBAL collections OrderedDict; " + module(table, "EMPTY_DICT") + "; TUPLE1; REDUCE";
  const auto child = dict(item("c", module(table, "EMPTY_DICT")));
  CHECK(state_dicts_of(pickled(module(table, "EMPTY_DICT"))) == Lines{": w"});
  CHECK(state_dicts_of(pickled(module(table, child))) == Lines{": w c.w"});
  CHECK(state_dicts_of(pickled(module(argument, child))) == Lines{": c.w"});
  CHECK(state_dicts_of(pickled(module(attribute, child))) == Lines{": c.w"});
  CHECK(state_dicts_of(pickled(module(table, of_two))) == Lines{": w"});
}

/// A module of these tables, in this order.
std::string module_of(const std::string& first, const std::string& second, const std::string& third,
                      const std::string& more = "") {
  return "GLOBAL m Net; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; " + first + second + third + more +
         "SETITEMS; BUILD; ";
}

std::string parameters(const std::string& items = "") {
  return item("_parameters", "EMPTY_DICT; MARK; " + items + "SETITEMS");
}

std::string buffers(const std::string& items = "") {
  return item("_buffers", "EMPTY_DICT; MARK; " + items + "SETITEMS");
}

std::string children(const std::string& items = "") {
  return item("_modules", "EMPTY_DICT; MARK; " + items + "SETITEMS");
}

/// `value` ends with "; ", as parts of other values do.
Checkpoint file_of(std::string value) {
  value.resize(value.size() - 2);
  return pickled(value);
}

TEST_CASE("a module's keys come in the order of state_dict(), whatever the file's", "[model]") {
  const auto leaf = module_of(parameters(item("w", "$")), buffers(item("b", "$")), children());
  const auto net =
      module_of(children("BINUNICODE c; " + leaf), buffers(item("mean", "$") + item("none", "NONE")),
                parameters(item("v", "$") + item("u", "$")));
  CHECK(state_dicts_of(file_of(net)) == Lines{": v u mean c.w c.b"});
  const auto hidden =
      module_of(parameters(), buffers(item("a", "$") + item("b", "$")), children(),
                "BINUNICODE _non_persistent_buffers_set; GLOBAL builtins set; MARK; BINUNICODE a; "
                "LIST; TUPLE1; REDUCE; ");
  CHECK(state_dicts_of(file_of(hidden)) == Lines{": b"});
}

TEST_CASE("a module that stands under two names gives its keys twice", "[model]") {
  const auto leaf = module_of(parameters(item("w", "$")), buffers(), children());
  const auto pair = "BINUNICODE a; " + leaf + "BINPUT 200; BINUNICODE b; BINGET 200; ";
  const auto net = module_of(parameters(), buffers(), children(pair));
  auto checkpoint = file_of(net);
  CHECK(state_dicts_of(checkpoint) == Lines{": a.w b.w"});
  CHECK(checkpoint.tensors.size() == 2);
  CHECK(checkpoint.tensors[0].storage == checkpoint.tensors[1].storage);
  CHECK(checkpoint.path(checkpoint.tensors[1].place) == "@_modules.b@_parameters.w");
  CHECK(checkpoint.modules.size() == 3);
  // beside itself it is one state dict, and one of its own where another one holds it
  CHECK(state_dicts_of(pickled(dict(pair))) == Lines{"a: w"});
  const auto outer = module_of(parameters(), buffers(), children("BINUNICODE c; BINGET 200; "));
  CHECK(state_dicts_of(pickled(dict("BINUNICODE c; " + leaf + "BINPUT 200; BINUNICODE net; " + outer))) ==
        Lines{"c: w", "net: c.w"});
}

TEST_CASE("modules that hold themselves, or are shared over and over, come to an end", "[model]") {
  const auto itself = "GLOBAL m Net; EMPTY_TUPLE; NEWOBJ; BINPUT 200; EMPTY_DICT; MARK; " +
                      parameters(item("w", "$")) + buffers() + children("BINUNICODE me; BINGET 200; ") +
                      "SETITEMS; BUILD";
  CHECK(state_dicts_of(pickled(itself)) == Lines{": w"});
  std::string net = module_of(parameters(item("w", "$")), buffers(), children());
  for (int i = 0; i < 40; ++i) {  // two to the power of forty keys
    const auto slot = std::to_string(200 + i);
    net = module_of(parameters(), buffers(),
                    children("BINUNICODE a; " + net + "LONG_BINPUT " + slot + "; BINUNICODE b; LONG_BINGET " +
                             slot + "; "));
  }
  CHECK(file_of(net).tensors.size() < 10'000);
  // nor does a chain of children with names of a thousand letters
  net = module_of(parameters(item("w", "$")), buffers(), children());
  for (int i = 0; i < 10; ++i)
    net = module_of(parameters(), buffers(), children("BINUNICODE " + std::string(300, 'a') + "; " + net));
  CHECK(state_dicts_of(file_of(net)) == Lines{":"});
}

TEST_CASE("a module below a list is a state dict where a root says so", "[model]") {
  const auto leaf = module_of(parameters(item("w", "$")), buffers(item("b", "$")), children());
  const auto list = "EMPTY_LIST; MARK; " + leaf + "NONE; APPENDS";
  CHECK(state_dicts_of(pickled(list)).empty());
  CHECK(chosen(pickled(list), {"[0]"}) == Lines{"[0]: w b"});
}

TEST_CASE("a key that is set twice is found among many", "[model]") {
  const auto findings = [](const std::string& last_key) {
    std::string items;
    for (int i = 0; i < 100; ++i) items += item("k" + std::to_string(i), "$");
    std::vector<std::string> found;
    const auto read = read_bytes(zip_of_pickle(dict(items + item(last_key, "$"))), &found);
    CHECK(outcome_of(read) == "done");
    return found;
  };
  CHECK(findings("k100").empty());
  CHECK(findings("k0") == std::vector<std::string>{"error duplicate-key"});
  CHECK(findings("k99") == std::vector<std::string>{"error duplicate-key"});
}
