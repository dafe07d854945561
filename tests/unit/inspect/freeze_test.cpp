// SPDX-License-Identifier: BSD-3-Clause
// Which parameters train, what that costs, and what moves all the same.
#include "ckpt/inspect/freeze.h"

#include <string>
#include <utility>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Names = std::vector<std::string>;

NamePattern pattern(std::string_view text) {
  auto parsed = NamePattern::parse(text);
  if (!parsed.ok()) FAIL(parsed.error().text());
  return std::move(parsed).value();
}

/// "freeze a, train b" as rules; "last 2" for --train-last.
FreezeQuestion question(const std::string& rules) {
  FreezeQuestion out;
  std::size_t at = 0;
  while (at < rules.size()) {
    const auto end = std::min(rules.find(", ", at), rules.size());
    const auto rule = rules.substr(at, end - at);
    const auto space = rule.find(' ');
    const auto word = rule.substr(0, space);
    const auto what = rule.substr(space + 1);
    if (word == "last") {
      out.train_last = std::stoull(what);
    } else if (word == "buffers") {
      out.buffers.push_back(pattern(what));
    } else if (word == "parameters") {
      out.parameters.push_back(pattern(what));
    } else {
      out.rules.push_back({word == "train", pattern(what)});
    }
    at = end + 2;
  }
  return out;
}

/// A checkpoint with its only report.
struct Asked {
  Checkpoint checkpoint;
  FreezeReport report;

  Asked(Checkpoint read, const FreezeQuestion& about) : checkpoint(std::move(read)) {
    auto reports = freeze_report(checkpoint, about);
    if (!reports.ok()) FAIL(reports.error().text());
    REQUIRE(reports->size() == 1);
    report = std::move(reports->front());
  }

  Names keys(bool train) const {
    Names out;
    for (const auto& entry : report.entries) {
      if (entry.role.kind == RoleKind::kParameter && entry.trains == train)
        out.emplace_back(checkpoint.tensors[entry.tensor].name);
    }
    return out;
  }
};

Asked ask(std::string_view description, const std::string& rules) {
  return Asked(described(description), question(rules));
}

Names training(std::string_view description, const std::string& rules) {
  return ask(description, rules).keys(true);
}

/// The error that the question meets.
std::string refusal(std::string_view description, const FreezeQuestion& about) {
  auto checkpoint = described(description);
  return outcome_of(freeze_report(checkpoint, about));
}

std::string refusal(std::string_view description, const std::string& rules) {
  return refusal(description, question(rules));
}

constexpr auto kNet =
    "conv.weight float32 2x3; bn.weight float32 2; bn.bias float32 2; bn.running_mean float32 2; "
    "bn.running_var float32 2; bn.num_batches_tracked int64 scalar; fc.weight float32 4x2; fc.bias float32 4";

}  // namespace

TEST_CASE("rules act in order, and the last that matches decides", "[inspect]") {
  const std::vector<std::pair<std::string, Names>> cases = {
      {"", {"conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"}},
      {"freeze conv", {"bn.weight", "bn.bias", "fc.weight", "fc.bias"}},
      {"train fc", {"fc.weight", "fc.bias"}},
      {"train fc, freeze **.bias", {"fc.weight"}},
      {"freeze **, train **.bias", {"bn.bias", "fc.bias"}},
      {"freeze **.bias, train fc", {"conv.weight", "bn.weight", "fc.weight", "fc.bias"}},
      {"last 0", {}},
      {"last 2", {"fc.weight", "fc.bias"}},
      {"last 3", {"bn.bias", "fc.weight", "fc.bias"}},
      {"last 5", {"conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"}},
      {"last 1, train conv", {"conv.weight", "fc.bias"}},
      {"last 2, freeze **.bias", {"fc.weight"}},
  };
  for (const auto& [rules, expected] : cases) {
    CAPTURE(rules);
    CHECK(training(kNet, rules) == expected);
  }
}

TEST_CASE("parameters start as requires_grad says, where the file has it", "[inspect]") {
  const auto file = [] {
    auto checkpoint =
        described("a.weight float32 2 parameter; b.weight float32 2 parameter; c.weight float32 2");
    checkpoint.tensors[0].flags &= static_cast<std::uint16_t>(~kRequiresGrad);
    return checkpoint;
  };
  const Asked plain(file(), {});
  CHECK(plain.report.start == FreezeStart::kRequiresGrad);
  CHECK(plain.keys(true) == Names{"b.weight", "c.weight"});
  CHECK(Asked(file(), question("freeze c")).keys(true) == Names{"b.weight"});
  CHECK(Asked(file(), question("train c")).keys(true) == Names{"c.weight"});
  CHECK(Asked(file(), question("last 3")).keys(true) == Names{"a.weight", "b.weight", "c.weight"});
  CHECK(ask(kNet, "").report.start == FreezeStart::kAll);
}

TEST_CASE("a tied tensor counts once, where its first key is", "[inspect]") {
  const auto text =
      "embed.weight float32 5x2; body.weight float32 2x2; head.weight float32 5x2 storage=embed.weight; "
      "head.bias float32 5";
  const auto all = ask(text, "");
  CHECK(all.report.total.parameters.tensors == 3);
  CHECK(all.report.total.parameters.numel == 19);
  CHECK(all.report.total.parameters.bytes == 76);
  CHECK(all.report.entries[2].first == 0);
  CHECK(training(text, "last 2") == Names{"body.weight", "head.bias"});
  CHECK(training(text, "last 3") == Names{"embed.weight", "body.weight", "head.weight", "head.bias"});
  // another shape, stride or offset on one storage is another parameter
  const auto views = ask(
      "a.weight float32 2x3; b.weight float32 3x2 storage=a.weight; c.weight float32 3x2 storage=a.weight "
      "strides=1x3; d.weight float32 2 storage=a.weight; e.weight float32 2 storage=a.weight offset=2",
      "");
  CHECK(views.report.total.parameters.tensors == 5);
}

TEST_CASE("a tie that defeats a freeze is listed, and the last rule that matches a key of it decides",
          "[inspect]") {
  const auto text =
      "embed.weight float32 5x2; head.weight float32 5x2 storage=embed.weight; head.bias float32 5";
  const auto conflicts = [&](const std::string& rules) {
    Names out;
    const auto asked = ask(text, rules);
    for (const auto& conflict : asked.report.conflicts) {
      out.push_back(fmt::format("{} {} for {}", conflict.name, conflict.trains ? "trains" : "is frozen",
                                conflict.other));
    }
    return out;
  };
  CHECK(conflicts("") == Names{});
  CHECK(conflicts("train head") == Names{"embed.weight trains for head.weight"});
  CHECK(conflicts("freeze embed") == Names{"head.weight is frozen for embed.weight"});
  CHECK(conflicts("freeze embed, train head") == Names{"embed.weight trains for head.weight"});
  CHECK(conflicts("train head, freeze embed") == Names{"head.weight is frozen for embed.weight"});
  CHECK(conflicts("freeze **.weight") == Names{});
  CHECK(training(text, "train head") == Names{"embed.weight", "head.weight", "head.bias"});
  CHECK(training(text, "freeze embed") == Names{"head.bias"});
}

TEST_CASE("a frozen parameter that shares memory with one that trains is listed", "[inspect]") {
  const auto overlaps = [](std::string_view text, const std::string& rules) {
    Names out;
    const auto asked = ask(text, rules);
    for (const auto& conflict : asked.report.conflicts) {
      CHECK(conflict.overlap);
      CHECK_FALSE(conflict.trains);
      out.push_back(fmt::format("{} with {}", conflict.name, conflict.other));
    }
    return out;
  };
  const auto halves =
      "a.weight float32 4; b.weight float32 2 storage=a.weight; c.weight float32 2 storage=a.weight offset=2";
  CHECK(overlaps(halves, "freeze b") == Names{"b.weight with a.weight"});
  CHECK(overlaps(halves, "freeze a").size() == 2);
  CHECK(overlaps(halves, "freeze a, freeze b, freeze c") == Names{});
  CHECK(overlaps(
            "all float32 4 numel=4; b.weight float32 2 storage=all; c.weight float32 2 storage=all offset=2",
            "buffers all, freeze b") == Names{});
  // columns of a matrix lie between each other and share nothing
  CHECK(
      overlaps("m.weight float32 3 strides=2 numel=6; n.weight float32 3 storage=m.weight strides=2 offset=1",
               "freeze m") == Names{});
}

TEST_CASE("the same Parameter twice is one; two Parameters on one storage are two", "[inspect]") {
  const Asked one(
      pickled("EMPTY_DICT; MARK; BINUNICODE \"a.weight\"; GLOBAL torch._utils _rebuild_parameter; MARK; $; "
              "NEWTRUE; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; TUPLE; REDUCE; BINPUT 9; "
              "BINUNICODE \"b.weight\"; BINGET 9; SETITEMS"),
      {});
  CHECK(one.report.total.parameters.tensors == 1);
  auto two = described("a.weight float32 2 parameter; b.weight float32 2 parameter storage=a.weight");
  const Asked both(std::move(two), {});
  CHECK(both.report.total.parameters.tensors == 2);
}

TEST_CASE("keys of unknown kind are an error until somebody says what they are", "[inspect]") {
  const auto text = "token float32 1x4; proj.weight float32 4x4; pe float32 8x4";
  CHECK(refusal(text, "") ==
        "refused: 2 keys of the state dict may be parameters or buffers: 'token', 'pe'; hint: say which are "
        "buffers "
        "with --buffers PATTERN and which are parameters with --parameters PATTERN");
  CHECK(refusal(text, "buffers pe") ==
        "refused: 1 key of the state dict may be a parameter or a buffer: 'token'; hint: say which are "
        "buffers with "
        "--buffers PATTERN and which are parameters with --parameters PATTERN");
  CHECK(
      refusal("m/x float32 2; n/y.weight float32 2", "") ==
      "refused: 1 key of 'm' may be a parameter or a buffer: 'x'; hint: say which are buffers with --buffers "
      "PATTERN and which are parameters with --parameters PATTERN; or choose a state dict with --root PATH");
  // what is asked about it comes after, but for a pattern that names no kind
  CHECK(refusal(text, "train token").starts_with("refused: 2 keys"));
  CHECK(refusal(text, "buffers pee").starts_with("not-found: 'pee' matches no key"));
  const auto told = ask(text, "buffers pe, parameters **, last 2");
  CHECK(told.keys(true) == Names{"token", "proj.weight"});
  CHECK(told.report.total.buffers.tensors == 1);
  CHECK(told.report.entries[0].role.evidence == RoleEvidence::kOption);
  CHECK(told.report.entries[1].role.evidence == RoleEvidence::kName);
  // a guess by name can be overruled, a Parameter can't
  CHECK(ask(text, "buffers proj, buffers pe, parameters token").report.total.buffers.tensors == 2);
  CHECK(refusal("a float32 2 parameter", "buffers a") ==
        "refused: key 'a' is said to be a buffer, but it is a parameter: it is an nn.Parameter or requires a "
        "gradient");
}

TEST_CASE("patterns without a match are an error with the nearest", "[inspect]") {
  CHECK(refusal(kNet, "freeze con") ==
        "not-found: 'con' matches no key; '**con**' would match 1; hint: use --allow-unmatched to accept a "
        "pattern "
        "without a match");
  CHECK(refusal(kNet, "train mlp") ==
        "not-found: 'mlp' matches no key; hint: use --allow-unmatched to accept a pattern without a match");
  CHECK(refusal(kNet, "train fc.wieght") ==
        "not-found: 'fc.wieght' matches no key; hint: did you mean 'fc.weight'? Use --allow-unmatched to "
        "accept a "
        "pattern without a match");
  CHECK(refusal(kNet, "freeze bn.running_*") ==
        "not-found: 'bn.running_*' matches no parameter, only 2 buffers: buffers do not train");
  CHECK(refusal(kNet, "buffers nothing").starts_with("not-found: 'nothing' matches no key"));
  CHECK(refusal(kNet, "parameters nothing").starts_with("not-found: 'nothing' matches no key"));
  auto accepted = question("freeze con");
  accepted.allow_unmatched = true;
  CHECK(refusal(kNet, accepted) == "done");
}

TEST_CASE("more last parameters than there are, and an order nobody knows, are errors", "[inspect]") {
  CHECK(refusal(kNet, "last 6") == "usage: --train-last 6, but the state dict has 5 parameters");
  CHECK(refusal("m/a.weight float32 2; rng/state uint8 4", "last 1") == "done");
  auto sorted = checkpoint_of(build_safetensors("a.weight float32 2; b.weight float32 2"));
  CHECK(outcome_of(freeze_report(sorted, question("last 1"))) ==
        "refused: --train-last needs the order of the model's parameters, and safetensors sorts by name; "
        "hint: name "
        "the keys with --train PATTERN");
  CHECK(outcome_of(freeze_report(sorted, question("train b"))) == "done");
  const Asked kept(checkpoint_of(build_safetensors("b.weight float32 2; a.weight float32 2")),
                   question("last 1"));
  CHECK(kept.keys(true) == Names{"a.weight"});
}

TEST_CASE("memory is that of gradients and optimizer state of what trains", "[inspect]") {
  const auto memory = [](OptimizerKind kind) {
    auto about = question("train a, train b");
    about.optimizer = kind;
    const Asked asked(described("a.weight float32 10; b.weight bfloat16 3; c.weight float32 100"), about);
    return std::vector<std::uint64_t>{asked.report.memory.gradients, asked.report.memory.state,
                                      asked.report.memory.steps};
  };
  CHECK(memory(OptimizerKind::kSgd) == std::vector<std::uint64_t>{46, 0, 0});
  CHECK(memory(OptimizerKind::kMomentum) == std::vector<std::uint64_t>{46, 46, 0});
  CHECK(memory(OptimizerKind::kAdam) == std::vector<std::uint64_t>{46, 100, 8});
  CHECK(memory(OptimizerKind::kAdamW) == std::vector<std::uint64_t>{46, 100, 8});
}

TEST_CASE("groups are levels of modules, or what an expression captures", "[inspect]") {
  const auto groups = [](std::string_view text, std::uint64_t depth, const std::string& expression) {
    FreezeQuestion about;
    about.grouping.depth = depth;
    if (!expression.empty()) about.grouping.expression = pattern("re:" + expression);
    const Asked asked(described(text), about);
    Names out;
    for (const auto& group : asked.report.groups)
      out.push_back(fmt::format("{} {} {}", group.name, group.parameters.numel, group.buffers.numel));
    return out;
  };
  const auto text =
      "bias float32 1; a.b.c.weight float32 2; a.b.weight float32 4; a.x.running_mean float32 8; d.weight "
      "float32 16";
  CHECK(groups(text, 0, "") == Names{" 23 8"});
  CHECK(groups(text, 1, "") == Names{"bias 1 0", "a 6 8", "d 16 0"});
  CHECK(groups(text, 2, "") == Names{"bias 1 0", "a.b 6 0", "a.x 0 8", "d 16 0"});
  CHECK(groups(text, 9, "") == Names{"bias 1 0", "a.b.c 2 0", "a.b 4 0", "a.x 0 8", "d 16 0"});
  CHECK(groups(text, 1, "weight$") == Names{"(no match) 1 8", "weight 22 0"});
  CHECK(groups(text, 1, "^(\\w)\\.") == Names{"(no match) 1 0", "a 6 8", "d 16 0"});
  CHECK(groups("module.a.weight float32 2; module.b.c.weight float32 2", 1, "") ==
        Names{"module.a 2 0", "module.b 2 0"});
  CHECK(groups("module.weight float32 2; module.b.weight float32 2", 1, "") ==
        Names{"module.weight 2 0", "module.b 2 0"});
}

TEST_CASE("statistics of norm layers that do not train still move", "[inspect]") {
  const auto moving = [](std::string_view text, const std::string& rules) {
    Names out;
    const auto asked = ask(text, rules);
    for (const auto& layer : asked.report.moving)
      out.push_back(fmt::format("{}: {}", layer.module, fmt::join(layer.buffers, ", ")));
    return out;
  };
  CHECK(moving(kNet, "") == Names{});
  CHECK(moving(kNet, "freeze conv") == Names{});
  CHECK(moving(kNet, "train bn.bias") == Names{});
  CHECK(moving(kNet, "last 2") == Names{"bn: bn.running_mean, bn.running_var, bn.num_batches_tracked"});
  CHECK(moving("running_mean float32 2; a.weight float32 2", "freeze a") == Names{": running_mean"});
}

TEST_CASE("what has no gradient does not train, and is said so if it was asked to", "[inspect]") {
  auto ids = ask("a.weight float32 2; ids int64 2 parameter", "freeze a, train ids");
  CHECK(ids.keys(true) == Names{});
  CHECK(ids.report.untrainable == std::vector<std::string_view>{"ids"});
  CHECK(ids.report.total.parameters.tensors == 2);
}
