// SPDX-License-Identifier: BSD-3-Clause
// What becomes of optimizers when keys go, change or get other names: in zip archives and legacy streams,
// and read back from what is written.
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/edit/apply.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/model/lookup.h"
#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

constexpr const char* kThree = "m/a.weight float32 2x3; m/b.weight float32 4; m/c.weight float32 5; ";
constexpr const char* kState =
    "o/state/#0/m float32 2x3; o/state/#1/m float32 4; o/state/#2/m float32 5; o/state/#2/v float32 5; ";
constexpr const char* kEqual = "m/a.weight float32 2; m/b.weight float32 2; m/c.weight float32 2; ";
constexpr const char* kEqualState =
    "o/state/#0/m float32 2; o/state/#1/m float32 2; o/state/#2/m float32 2; ";
constexpr const char* kNamed =
    "o/param_groups = [{'param_names':['a.weight','b.weight','c.weight'],'lr':1,'params':[0,1,2]}]";
constexpr const char* kUnnamed = "o/param_groups = [{'lr':1,'params':[0,1,2]}]";

constexpr const char* kRefused = "refused: parameters go or change, and the optimizer state at ";
constexpr const char* kKeepOrDrop =
    "; hint: say what becomes of it: drop takes it away; keep leaves it as it is, unfit for the model\n"
    "REPEAT --optimizer drop\nREPEAT --optimizer keep";
constexpr const char* kOrAssume =
    "; hint: say what becomes of it: drop takes it away; keep leaves it as it is, unfit for the model; "
    "remap=model-order takes the parameters to be in the order of the keys\n"
    "REPEAT --optimizer drop\nREPEAT --optimizer keep\nREPEAT --optimizer remap=model-order";

NamePattern pattern(const std::string& text) {
  return NamePattern::parse(text).value();
}

Plan drop(const Lines& patterns, OptimizerPolicy policy = OptimizerPolicy::kRemap) {
  FilterKeys filter;
  for (const auto& text : patterns) filter.rules.push_back({false, pattern(text)});
  Plan plan;
  plan.edits.emplace_back(std::move(filter));
  plan.optimizer = policy;
  return plan;
}

Plan rename(const std::string& rule) {
  RenameKeys renames;
  renames.rules.push_back(parse_rename_rule(rule).value());
  Plan plan;
  plan.edits.emplace_back(std::move(renames));
  return plan;
}

Plan strip() {
  Plan plan;
  plan.edits.emplace_back(StripWrappers{});
  return plan;
}

/// A step of a path at which the bytes of a tensor of the optimizer stand, by those bytes.
std::map<std::string, std::string> places_by_bytes(const Checkpoint& checkpoint) {
  std::map<std::string, std::string> places;
  for (const auto& line : table(checkpoint))
    places[line.substr(line.find(' '))] = line.substr(0, line.find(' '));
  return places;
}

/// The optimizer at `path`: its groups as JSON, then "o.state{0}.m was o.state{1}.m" for each of its tensors.
Lines optimizer(const Checkpoint& before, const Checkpoint& after, const std::string& path = "o") {
  const auto groups = find_value(after, path + ".param_groups");
  if (!groups.ok()) return {groups.error().text()};
  Lines lines = {value_as_json(after, groups->value).value()};
  const auto origins = places_by_bytes(before);
  for (const auto& line : table(after)) {
    const auto place = line.substr(0, line.find(' '));
    if (!place.starts_with(path + ".state")) continue;
    const auto origin = origins.at(line.substr(line.find(' ')));
    lines.push_back(origin == place ? place : place + " was " + origin);
  }
  return lines;
}

/// The same of what is written after the plan; the error where it fails. Zip and legacy stream must agree.
Lines settled(const Plan& plan, const std::string& description, const std::string& path = "o") {
  Lines found;
  for (auto file : {build_torch_zip(description), build_torch_legacy(description)}) {
    const auto before = checkpoint_of(file);
    auto checkpoint = checkpoint_of(std::move(file));
    const auto report = apply_plan(plan, checkpoint);
    Lines lines = {outcome_of(report)};
    if (report.ok()) {
      const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
      REQUIRE(layout.ok());
      lines = optimizer(before, checkpoint_of(written(*layout, checkpoint)), path);
    }
    if (!found.empty()) CHECK(lines == found);
    found = lines;
  }
  return found;
}

PlanReport report_of_plan(const Plan& plan, const std::string& description) {
  auto checkpoint = described(description);
  return apply_plan(plan, checkpoint).value();
}

}  // namespace

TEST_CASE("a parameter that goes takes its index, its state and its name along", "[edit]") {
  CHECK(settled(drop({"b"}), std::string(kEqual) + kEqualState + kNamed) ==
        Lines{R"([{"param_names":["a.weight","c.weight"],"lr":1,"params":[0,1]}])", "o.state{0}.m",
              "o.state{1}.m was o.state{2}.m"});
  CHECK(settled(drop({"b"}), std::string(kThree) + kState + kUnnamed) ==
        Lines{R"([{"lr":1,"params":[0,1]}])", "o.state{0}.m", "o.state{1}.m was o.state{2}.m",
              "o.state{1}.v was o.state{2}.v"});
  CHECK(settled(drop({"a", "b"}), std::string(kThree) + kState + kNamed) ==
        Lines{R"([{"param_names":["c.weight"],"lr":1,"params":[0]}])", "o.state{0}.m was o.state{2}.m",
              "o.state{0}.v was o.state{2}.v"});
}

TEST_CASE("indices are counted anew over all groups, and a group may end empty", "[edit]") {
  const auto* groups = "o/param_groups = [{'params':[0]},{'params':[1]},{'params':[2]}]";
  CHECK(settled(drop({"a"}), std::string(kThree) + kState + groups) ==
        Lines{R"([{"params":[]},{"params":[0]},{"params":[1]}])", "o.state{0}.m was o.state{1}.m",
              "o.state{1}.m was o.state{2}.m", "o.state{1}.v was o.state{2}.v"});
  CHECK(report_of_plan(drop({"a"}), std::string(kThree) + kState + groups).notes ==
        Lines{"group 0 of the optimizer state at 'o' is left without parameters"});
}

TEST_CASE("the order of the state and of the groups stays", "[edit]") {
  CHECK(settled(drop({"b"}), std::string(kThree) +
                                 "o/state/#2/m float32 2x3; o/state/#1/m float32 4; o/state/#0/m float32 5; "
                                 "o/param_groups = [{'params':[0,1]},{'params':[2]}]") ==
        Lines{R"([{"params":[0]},{"params":[1]}])", "o.state{1}.m was o.state{2}.m", "o.state{0}.m"});
}

TEST_CASE("numbers that do not count up are left alone", "[edit]") {
  CHECK(settled(drop({"b"}),
                std::string(kThree) +
                    "o/state/#900/m float32 2x3; o/state/#70/m float32 4; o/state/#80/m float32 5; "
                    "o/param_groups = [{'params':[900,70,80]}]") ==
        Lines{R"([{"params":[900,80]}])", "o.state{900}.m", "o.state{80}.m"});
}

TEST_CASE("parameters without state go, too", "[edit]") {
  CHECK(settled(drop({"b"}), std::string(kThree) + "o/state/#2/m float32 5; " + kNamed) ==
        Lines{R"([{"param_names":["a.weight","c.weight"],"lr":1,"params":[0,1]}])",
              "o.state{1}.m was o.state{2}.m"});
  CHECK(settled(drop({"b"}, OptimizerPolicy::kRemapModelOrder),
                std::string(kThree) + "o/state = {}; " + kUnnamed) == Lines{R"([{"lr":1,"params":[0,1]}])"});
}

TEST_CASE("what the optimizer does not train makes no difference to it", "[edit]") {
  const std::string bn = "m/bn.running_mean float32 2; m/n.num_batches_tracked int64 scalar; ";
  const auto* two = "o/state/#0/m float32 2x3; o/state/#1/m float32 5; o/param_groups = [{'params':[0,1]}]";
  const Lines same = {R"([{"params":[0,1]}])", "o.state{0}.m", "o.state{1}.m"};
  CHECK(settled(drop({"b"}), kThree + std::string(two)) == same);  // frozen
  // buffers need no proof
  CHECK(settled(drop({"bn", "n"}), bn + kEqual + kEqualState + kUnnamed).size() == 4);
  CHECK(settled(drop({"a", "bn"}), bn + kThree + kState + kUnnamed).front() ==
        R"([{"lr":1,"params":[0,1]}])");
}

TEST_CASE("what is not proven is refused, with the choices there are", "[edit]") {
  const std::string equal = std::string(kEqual) + kEqualState;
  CHECK(
      settled(drop({"b"}), equal + kUnnamed) ==
      Lines{kRefused +
            std::string(
                "'o' can't follow: it is not proven which parameter is which: index 0 has the shape [2], as "
                "have 'a.weight', 'b.weight' and 1 more") +
            kOrAssume});
  // [b, a] or [a, b]: nobody knows
  for (const auto policy : {OptimizerPolicy::kRemap, OptimizerPolicy::kRemapModelOrder}) {
    CHECK(settled(drop({"c"}, policy),
                  "m/a.weight float32 2; m/b.weight float32 2; m/c.weight float32 3; "
                  "o/state/#0/m float32 2; o/state/#1/m float32 2; o/state/#2/m float32 3; "
                  "o/param_groups = [{'params':[0]},{'params':[1,2]}]") ==
          Lines{kRefused +
                std::string(
                    "'o' can't follow: it is not proven which parameter is which: index 0 has the shape [2], "
                    "as have 'a.weight' and 'b.weight'") +
                kKeepOrDrop});
  }
  CHECK(settled(drop({"b"}), std::string(kEqual) + "o/state/#0/old_dirs = []; " + kNamed) ==
        Lines{kRefused +
              std::string(
                  "'o' can't follow: its layout is not that of PyTorch: the state of index 0 holds a list: "
                  "'old_dirs'") +
              kKeepOrDrop});
  CHECK(settled(drop({"b"}), "model_ema/a.weight float32 2; model_ema/b.weight float32 3; " +
                                 std::string(kEqualState) + kUnnamed) ==
        Lines{kRefused + std::string("'o' can't follow: no state dict of a model stands beside it") +
              kKeepOrDrop});
}

TEST_CASE("the order of the keys is taken if the user says so", "[edit]") {
  CHECK(
      settled(drop({"b"}, OptimizerPolicy::kRemapModelOrder), std::string(kEqual) + kEqualState + kUnnamed) ==
      Lines{R"([{"lr":1,"params":[0,1]}])", "o.state{0}.m", "o.state{1}.m was o.state{2}.m"});
  // what is proven counts more
  CHECK(settled(drop({"b"}, OptimizerPolicy::kRemapModelOrder),
                std::string(kThree) +
                    "o/state/#0/m float32 4; o/state/#1/m float32 5; o/state/#2/m float32 2x3; " +
                    kUnnamed) == Lines{R"([{"lr":1,"params":[0,1]}])", "o.state{0}.m was o.state{1}.m",
                                       "o.state{1}.m was o.state{2}.m"});
}

TEST_CASE("an optimizer that is kept or dropped needs no proof", "[edit]") {
  const std::string equal = std::string(kEqual) + kEqualState + kUnnamed;
  CHECK(settled(drop({"b"}, OptimizerPolicy::kKeep), equal) ==
        Lines{R"([{"lr":1,"params":[0,1,2]}])", "o.state{0}.m", "o.state{1}.m", "o.state{2}.m"});
  CHECK(settled(drop({"b"}, OptimizerPolicy::kDrop), equal) ==
        Lines{"no 'o.param_groups' in the file: nothing is called 'o' there"});
  auto plan = drop({"b"});
  plan.edits.emplace_back(DropEntries{{"o"}});
  CHECK(settled(plan, equal) == Lines{"no 'o.param_groups' in the file: nothing is called 'o' there"});
}

TEST_CASE("names follow their keys, also where no key goes", "[edit]") {
  const std::string named = std::string(kEqual) + kEqualState + kNamed;
  const auto groups = [](const std::string& names) {
    return R"([{"param_names":[)" + names + R"(],"lr":1,"params":[0,1,2]}])";
  };
  CHECK(settled(rename("b=x"), named).front() == groups(R"("a.weight","x.weight","c.weight")"));
  auto both = drop({"a"});
  both.edits.emplace_back(rename("c=a").edits.front());
  CHECK(settled(both, named) == Lines{R"([{"param_names":["b.weight","a.weight"],"lr":1,"params":[0,1]}])",
                                      "o.state{0}.m was o.state{1}.m", "o.state{1}.m was o.state{2}.m"});
  auto kept = rename("b=x");
  kept.optimizer = OptimizerPolicy::kKeep;
  CHECK(settled(kept, named).front() == groups(R"("a.weight","b.weight","c.weight")"));
  // a name that is no key stays, and needs no choice
  CHECK(settled(rename("b=x"), std::string(kEqual) + "o/state = {}; " +
                                   "o/param_groups = [{'param_names':['b.weight','loss'],'params':[0,1]}]")
            .front() == R"([{"param_names":["x.weight","loss"],"params":[0,1]}])");
}

TEST_CASE("names that stand for indices go and follow, too", "[edit]") {
  const std::string description =
      std::string(kEqual) +
      "o/state/a.weight/m float32 2; o/state/b.weight/m float32 2; "
      "o/state/c.weight/m float32 2; "
      "o/param_groups = [{'params':['c.weight']},{'params':['a.weight','b.weight']}]";
  CHECK(settled(drop({"a"}), description) == Lines{R"([{"params":["c.weight"]},{"params":["b.weight"]}])",
                                                   "o.state[\"b.weight\"].m", "o.state[\"c.weight\"].m"});
  CHECK(settled(rename("c=x"), description) ==
        Lines{R"([{"params":["x.weight"]},{"params":["a.weight","b.weight"]}])", "o.state[\"a.weight\"].m",
              "o.state[\"b.weight\"].m", "o.state[\"x.weight\"].m was o.state[\"c.weight\"].m"});
}

TEST_CASE("wrappers are stripped from names, whether keys have them or not", "[edit]") {
  const std::string wrapped = "m/module.a.weight float32 2; m/module.b.weight float32 3; o/state = {}; ";
  const std::string plain = "m/a.weight float32 2; m/b.weight float32 3; o/state = {}; ";
  const std::string wrapped_names =
      "o/param_groups = [{'param_names':['module.a.weight','module.b.weight'],'params':[0,1]}]";
  const std::string plain_names = "o/param_groups = [{'param_names':['a.weight','b.weight'],'params':[0,1]}]";
  const Lines stripped = {R"([{"param_names":["a.weight","b.weight"],"params":[0,1]}])"};
  CHECK(settled(strip(), wrapped + wrapped_names) == stripped);
  CHECK(settled(strip(), wrapped + plain_names) == stripped);
  CHECK(settled(strip(), plain + wrapped_names) == stripped);
  CHECK(report_of_plan(strip(), plain + wrapped_names).optimizers.front().renamed == 2);
  CHECK_FALSE(report_of_plan(strip(), plain + wrapped_names).changes_nothing());
  CHECK(report_of_plan(strip(), plain + plain_names).changes_nothing());
  // other edits leave the difference
  CHECK(settled(drop({"a"}), plain + wrapped_names) ==
        Lines{R"([{"param_names":["module.b.weight"],"params":[0]}])"});
}

TEST_CASE("a parameter of another shape keeps its index and loses its state", "[edit]") {
  const std::string description = std::string(kThree) + kState + kUnnamed;
  const auto before = described(description);
  auto checkpoint = described(description);
  const auto storage = checkpoint.add_storage(DataRef::of_bytes(Bytes(32)), Dtype::kFloat32);
  checkpoint.replace(0, 1, {Dtype::kFloat32, storage, 0, {2, 4}, {}});
  checkpoint.replace(0, 2, {Dtype::kFloat32, storage, 0, {5}, {}});  // other values of the same shape
  const auto report = apply_plan(drop({"a"}), checkpoint);
  REQUIRE(report.ok());
  const auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  CHECK(optimizer(before, checkpoint_of(written(*layout, checkpoint))) ==
        Lines{R"([{"lr":1,"params":[0,1]}])", "o.state{1}.m was o.state{2}.m",
              "o.state{1}.v was o.state{2}.v"});
  CHECK(report->optimizers.front().reset == Lines{"b.weight"});
  CHECK(report->optimizers.front().dropped == Lines{"a.weight"});
}

TEST_CASE("a tied parameter goes with its last key", "[edit]") {
  const std::string tied =
      "m/a.weight float32 2x3; m/b.weight float32 4; m/out.weight float32 2x3 storage=m/a.weight; ";
  const std::string rest = "o/state/#0/m float32 2x3; o/state/#1/m float32 4; ";
  const auto* groups = "o/param_groups = [{'params':[0,1]}]";
  const auto* named = "o/param_groups = [{'param_names':['a.weight','b.weight'],'params':[0,1]}]";
  const Lines both = {R"([{"params":[0,1]}])", "o.state{0}.m", "o.state{1}.m"};
  CHECK(settled(drop({"out"}), tied + rest + groups) == both);
  CHECK(settled(drop({"a", "out"}), tied + rest + groups) ==
        Lines{R"([{"params":[0]}])", "o.state{0}.m was o.state{1}.m"});
  CHECK(settled(drop({"a", "b"}), tied + rest + named) ==
        Lines{R"([{"param_names":["out.weight"],"params":[0]}])", "o.state{0}.m"});
  // the model meets it behind b now
  CHECK(settled(drop({"a"}), tied + rest + groups) ==
        Lines{kRefused +
              std::string(
                  "'o' can't follow: of the tied keys of index 0, 'a.weight' goes, and what is left stands "
                  "behind 'b.weight'") +
              kKeepOrDrop});
}

TEST_CASE("tied keys that part are refused", "[edit]") {
  auto checkpoint = described(
      "m/a.weight float32 2x3; m/out.weight float32 2x3 storage=m/a.weight; o/state/#0/m float32 2x3; "
      "o/param_groups = [{'params':[0]}]");
  const auto storage = checkpoint.add_storage(DataRef::of_bytes(Bytes(16)), Dtype::kFloat32);
  checkpoint.replace(0, 1, {Dtype::kFloat32, storage, 0, {4}, {}});
  CHECK(
      outcome_of(apply_plan(rename("a=b"), checkpoint)) ==
      kRefused +
          std::string("'o' can't follow: index 0 is 'a.weight', and its keys 'a.weight' and 'out.weight' no "
                      "longer have one shape") +
          kKeepOrDrop);
}

TEST_CASE("each optimizer follows its own model", "[edit]") {
  const std::string gan =
      "g/a.weight float32 2; g/b.weight float32 3; d/c.weight float32 4; d/e.weight float32 5; "
      "og/state/#0/m float32 2; og/state/#1/m float32 3; og/param_groups = [{'params':[0,1]}]; "
      "od/state/#0/m float32 4; od/state/#1/m float32 5; od/param_groups = [{'params':[0,1]}]";
  CHECK(settled(drop({"a", "e"}), gan, "og") ==
        Lines{R"([{"params":[0]}])", "og.state{0}.m was og.state{1}.m"});
  CHECK(settled(drop({"a", "e"}), gan, "od") == Lines{R"([{"params":[0]}])", "od.state{0}.m"});
}

TEST_CASE("models that the same edit leaves alike may share an optimizer", "[edit]") {
  const std::string two =
      "m/a.weight float32 2; m/b.weight float32 3; best/a.weight float32 2; best/b.weight float32 3; "
      "o/state/#0/m float32 2; o/state/#1/m float32 3; o/param_groups = [{'params':[0,1]}]";
  CHECK(settled(drop({"a"}), two) == Lines{R"([{"params":[0]}])", "o.state{0}.m was o.state{1}.m"});
  auto one = drop({"a"});
  one.roots = {"m"};
  CHECK(settled(one, two) ==
        Lines{kRefused +
              std::string("'o' can't follow: it may belong to the state dict at 'm' or to that at 'best'") +
              kKeepOrDrop});
}

TEST_CASE("an average that is edited leaves the optimizer alone", "[edit]") {
  auto plan = drop({"a"});
  plan.roots = {"ema"};
  CHECK(settled(plan, "ema/a.weight float32 2; ema/b.weight float32 3; " + std::string(kEqual) + kEqualState +
                          kUnnamed)
            .size() == 4);
}

TEST_CASE("the report says how an optimizer followed", "[edit]") {
  const auto report = report_of_plan(drop({"b"}), std::string(kThree) + kState + kNamed);
  REQUIRE(report.optimizers.size() == 1);
  const auto& optimizer = report.optimizers.front();
  CHECK(optimizer.path == "o");
  CHECK(optimizer.root == "m");
  CHECK(optimizer.evidence == OrderEvidence::kNames);
  CHECK(optimizer.parameters_before == 3);
  CHECK(optimizer.parameters_after == 2);
  CHECK(optimizer.dropped == Lines{"b.weight"});
  CHECK(report_of_plan(drop({"b"}), std::string(kThree) + kState + kUnnamed).optimizers.front().evidence ==
        OrderEvidence::kShapes);
  CHECK(report_of_plan(rename("b=x"), std::string(kThree) + kState + kUnnamed).optimizers.empty());
}
