// SPDX-License-Identifier: BSD-3-Clause
// Every way in which a plan can be wrong for a file: code, message, hint. What plans do when they are right
// is told by the format and command-line tests.
#include "ckpt/edit/apply.h"

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Names = std::vector<std::string>;

constexpr const char* kAccept = "; hint: use --allow-unmatched to accept a pattern without a match";

Plan plan_of(Edit edit) {
  Plan plan;
  plan.edits.push_back(std::move(edit));
  return plan;
}

NamePattern pattern(const std::string& text) {
  auto parsed = NamePattern::parse(text);
  REQUIRE(parsed.ok());
  return std::move(parsed).value();
}

Plan strip() {
  return plan_of(StripWrappers{});
}

Plan filter(const Names& rules) {
  FilterKeys edit;
  for (const auto& rule : rules) edit.rules.push_back({rule[0] == '+', pattern(rule.substr(1))});
  return plan_of(std::move(edit));
}

Plan map(const Names& rules) {
  RenameKeys edit;
  for (const auto& text : rules) {
    auto rule = parse_rename_rule(text);
    REQUIRE(rule.ok());
    edit.rules.push_back(std::move(rule).value());
  }
  return plan_of(std::move(edit));
}

Plan strip_prefix(const std::string& prefix) {
  return plan_of(RenameKeys{{{RenameRule::Kind::kStripPrefix, std::nullopt, prefix}}});
}

Plan drop_entries(const Names& paths) {
  return plan_of(DropEntries{paths});
}

Plan at_roots(Plan plan, const Names& roots) {
  plan.roots = roots;
  return plan;
}

std::string applied(const Plan& plan, Checkpoint checkpoint) {
  return outcome_of(apply_plan(plan, checkpoint));
}

std::string applied(const Plan& plan, const char* description) {
  return applied(plan, described(description));
}

/// The same, if patterns and paths may match nothing.
std::string allowed(Plan plan, const char* description) {
  plan.allow_unmatched = true;
  return applied(plan, description);
}

/// A module: an object of a class of torch.nn with a parameter.
constexpr const char* kModule =
    "GLOBAL torch.nn.modules.linear Linear; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; "
    "BINUNICODE training; NEWTRUE; "
    "BINUNICODE _parameters; EMPTY_DICT; BINUNICODE weight; $; SETITEM; "
    "BINUNICODE _buffers; EMPTY_DICT; BINUNICODE _modules; EMPTY_DICT; SETITEMS; BUILD";

}  // namespace

TEST_CASE("a plan for keys needs a state dict", "[edit]") {
  const std::string error =
      "not-found: no state dict in the file; no mapping of the file holds tensors; hint: name a mapping with "
      "--root PATH";
  for (const auto& plan : {strip(), filter({"-a"}), map({"a=b"})}) {
    CHECK(applied(plan, "epoch = 3") == error);
    CHECK(allowed(plan, "epoch = 3") == error);
    CHECK(
        applied(at_roots(plan, {"model"}), "w float32 2") ==
        "not-found: no mapping with string keys at 'model'; mappings that hold tensors: the root (1 tensor)");
  }
  CHECK(applied(drop_entries({"epoch"}), "epoch = 3; step = 4") == "done");
}

TEST_CASE("a pattern that matches nothing suggests what would", "[edit]") {
  const auto* description = "conv.weight float32 2; conv.bias float32 2";
  const std::string near =
      "; hint: did you mean 'conv.weight'? Use --allow-unmatched to accept a pattern without a match";
  CHECK(applied(filter({"-conv.wieght"}), description) == "not-found: 'conv.wieght' matches no key" + near);
  CHECK(applied(map({"conv.wieght=w"}), description) == "not-found: 'conv.wieght' matches no key" + near);
  CHECK(applied(filter({"-convs"}), description) ==
        "not-found: 'convs' matches no key; hint: did you mean 'conv'? Use --allow-unmatched to accept a "
        "pattern "
        "without a match");
  CHECK(applied(filter({"-*.zzz.qqq"}), description) ==
        std::string("not-found: '*.zzz.qqq' matches no key") + kAccept);
  CHECK(applied(filter({"-re:^x$"}), description) ==
        std::string("not-found: 're:^x$' matches no key") + kAccept);
  CHECK(applied(filter({"-*.weight", "-*.weight"}),
                "a.b.weight float32 2; c.d.weight float32 2; e float32 2") ==
        std::string("not-found: '*.weight' matches no key; '**.weight' would match 2") + kAccept);
  CHECK(applied(filter({"+conv", "-nope"}), description).starts_with("not-found: 'nope' matches no key"));
  for (const auto& plan : {filter({"-conv.wieght"}), map({"conv.wieght=w"})})
    CHECK(allowed(plan, description) == "done");
}

TEST_CASE("a prefix that no key has is an error", "[edit]") {
  CHECK(applied(strip_prefix("module."), "w float32 2") ==
        "not-found: no key starts with 'module.'; hint: use --allow-unmatched to accept that");
  CHECK(allowed(strip_prefix("module."), "w float32 2") == "done");
  CHECK(applied(strip_prefix("module."), "a/w float32 2; b/module.w float32 2") == "done");
}

TEST_CASE("two keys never get one name, whatever was meant", "[edit]") {
  const auto* two = "a.w float32 2; b.w float32 2";
  CHECK(applied(map({"a=b"}), two) == "refused: keys 'a.w' and 'b.w' would both be called 'b.w'");
  CHECK(applied(strip_prefix("a."), "w float32 2; a.w float32 2") ==
        "refused: keys 'w' and 'a.w' would both be called 'w'");
  CHECK(applied(strip(), "n_averaged int64 scalar; module.n_averaged float32 2; module.w float32 2") ==
        "refused: keys 'n_averaged' and 'module.n_averaged' would both be called 'n_averaged'");
  CHECK(allowed(map({"a=b"}), two).starts_with("refused: "));
  CHECK(applied(map({"a=x", "b=a", "x=b"}), two) == "done");  // a swap is none
  CHECK(applied(at_roots(map({"w=epoch"}), {""}), "w float32 2; epoch = 3") ==
        "refused: key 'w' would be called 'epoch', which is another entry's key");
}

TEST_CASE("a new name has to be one that Python can load", "[edit]") {
  for (const auto* bytes : {"\xff", "\xc3", "\xed\xa0", "\xf5\x80\x80\x80"}) {
    const auto outcome = applied(map({std::string("w=") + bytes}), "w float32 2");
    CHECK(outcome.starts_with("usage: the new name '"));
    CHECK(outcome.ends_with("of key 'w' is not UTF-8"));
  }
  CHECK(applied(map({"w=\xed\xa0\x80"}), "w float32 2") == "done");  // a lone surrogate is loadable
}

TEST_CASE("a state dict is not left empty", "[edit]") {
  const std::string hint = "; hint: to drop the whole entry, use --drop-entry PATH";
  CHECK(applied(filter({"-**"}), "w float32 2") ==
        "refused: no key of the state dict at the root would be left" + hint);
  CHECK(applied(filter({"+*.weight"}), "a/x.weight float32 2; b/x.bias float32 2") ==
        "refused: no key of the state dict at 'b' would be left" + hint);
  CHECK(allowed(filter({"+nope"}), "model/w float32 2") ==
        "refused: no key of the state dict at 'model' would be left" + hint);
}

TEST_CASE("an entry that can't be dropped is told why", "[edit]") {
  const auto* description = "model/w float32 2; epoch = 3";
  CHECK(applied(drop_entries({"epoch", "epochs"}), description) ==
        "not-found: no 'epochs' in the file: nothing is called 'epochs' there; hint: did you mean 'epoch'?");
  CHECK(applied(drop_entries({""}), description) ==
        "unsupported: '' is no item of a mapping or a list, so it can't be dropped");
  CHECK(applied(drop_entries({"[0]"}), pickled("BININT1 5; TUPLE1")) ==
        "unsupported: '[0]' is no item of a mapping or a list, so it can't be dropped");
  CHECK(applied(drop_entries({"a["}), description) == "usage: 'a[' is no path: unexpected text at column 2");
  CHECK(applied(drop_entries({"w"}), checkpoint_of(build_safetensors("w float32 2"))) ==
        "unsupported: no 'w' in the file: it holds tensors and nothing else");
  CHECK(allowed(drop_entries({"epochs"}), description) == "done");
  CHECK(allowed(drop_entries({"a["}), description).starts_with("usage: "));
  CHECK(allowed(drop_entries({""}), description).starts_with("unsupported: "));
}

TEST_CASE("the keys of a whole module can't be edited", "[edit]") {
  const std::string rest =
      ": its keys are attributes of objects and can't be edited in place; hint: get its state dict: ckpt "
      "convert --state-dict FILE -o params.pt";
  const auto beside = "EMPTY_DICT; MARK; BINUNICODE net; " + std::string(kModule) +
                      "; BINUNICODE model; EMPTY_DICT; BINUNICODE w; $; SETITEM; SETITEMS";
  for (const auto& plan : {filter({"-weight"}), map({"weight=w"})}) {
    CHECK(applied(plan, pickled(kModule)) == "unsupported: a whole module stands at the root" + rest);
    CHECK(applied(at_roots(plan, {"net"}), pickled(beside)) ==
          "unsupported: a whole module stands at 'net'" + rest);
  }
  auto checkpoint = pickled(beside);
  const auto report = apply_plan(map({"w=v"}), checkpoint);
  REQUIRE(report.ok());
  CHECK(report->notes.front() == "the whole module at 'net' is carried as it is");
  CHECK(report->state_dicts.size() == 1);
}

TEST_CASE("a reference has one state dict, or says which", "[edit]") {
  const auto keys = [](const char* description, const std::optional<std::string>& root) {
    auto reference = described(description);
    return outcome_of(reference_keys(reference, root));
  };
  const auto* two = "model/w float32 2; ema/w float32 2";
  CHECK(keys(two, std::nullopt) ==
        "usage: the reference has 2 state dicts: 'model', 'ema'; hint: name one with --like-root PATH");
  CHECK(keys(two, "ema") == "done");
  CHECK(keys(two, "nope") ==
        "not-found: no mapping with string keys at 'nope'; mappings that hold tensors: 'model' (1 tensor), "
        "'ema' (1 "
        "tensor)");
  CHECK(keys("epoch = 3", std::nullopt).starts_with("not-found: no state dict in the file"));
}

TEST_CASE("a rule for renaming is OLD=NEW, and OLD is a pattern that names something", "[edit]") {
  for (const auto* text : {"", "a", "=", "=a"}) {
    CHECK(outcome_of(parse_rename_rule(text)) == "usage: '" + std::string(text) + "' is no OLD=NEW");
  }
  CHECK(outcome_of(parse_rename_rule("!a=b")) == "usage: '!a=b': a negated pattern can't be renamed");
  CHECK(outcome_of(parse_rename_rule("re:(=b")).starts_with("usage: "));
  for (const auto* text : {"a=", "a=b", "==", "=a=b", "re:^(.)=\\1"}) {
    CAPTURE(text);
    CHECK(outcome_of(parse_rename_rule(text)) == "done");
  }
}

TEST_CASE("a plan that fails says what is wrong first, in the order of its edits", "[edit]") {
  auto plan = filter({"-nope"});
  plan.edits.emplace_back(DropEntries{{"nowhere"}});
  CHECK(applied(plan, "w float32 2")
            .starts_with("not-found: edit 1 of 2 (filter-keys): 'nope' matches no key"));
  std::swap(plan.edits[0], plan.edits[1]);
  CHECK(applied(plan, "w float32 2")
            .starts_with("not-found: edit 1 of 2 (drop-entry): no 'nowhere' in the file"));
}
