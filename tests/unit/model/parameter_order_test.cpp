// SPDX-License-Identifier: BSD-3-Clause
// Which parameter an index of an optimizer means: what proves it, what is an assumption, and what is neither.
#include "ckpt/model/parameter_order.h"

#include <string>
#include <utility>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

/// "shapes: a b+c" by slot, tied keys joined; "nothing: why"; with an assumption both.
std::string order_in(const Checkpoint& checkpoint) {
  const auto optimizers = optimizers_of(checkpoint);
  REQUIRE(optimizers.size() == 1);
  const auto state = read_optimizer_state(checkpoint, optimizers.front());
  REQUIRE(state.ok());
  const auto order = find_parameter_order(checkpoint, *state, 0);
  std::string text(order_evidence_name(order.evidence));
  text += ":";
  for (const auto& entries : order.entries) {
    text += " ";
    for (std::size_t i = 0; i < entries.size(); ++i)
      text += (i > 0 ? "+" : "") + checkpoint.original_name(0, entries[i]);
  }
  if (!order.disagreement.empty()) text += (order.entries.empty() ? " " : "; ") + order.disagreement;
  return text;
}

std::string order_of(const std::string& description) {
  return order_in(described(description));
}

std::string state(const std::vector<std::string>& shapes) {
  std::string text;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    if (!shapes[i].empty()) text += fmt::format("o/state/#{}/m float32 {}; ", i, shapes[i]);
  }
  return text.empty() ? "o/state = {}; " : text;
}

std::string groups(const std::string& literal) {
  return "o/param_groups = " + literal;
}

constexpr const char* kThree = "m/a.weight float32 2x3; m/b.weight float32 4; m/c.weight float32 5; ";
constexpr const char* kEqual = "m/a.weight float32 2; m/b.weight float32 2; m/c.weight float32 5; ";

}  // namespace

TEST_CASE("names prove an order, whatever the shapes are", "[model]") {
  const std::string one = "[{'param_names':['b.weight','a.weight'],'params':[0,1]}]";
  CHECK(order_of(kEqual + state({"2", "2"}) + groups(one)) == "names: b.weight a.weight");
  CHECK(order_of(kEqual + state({}) + groups(one)) == "names: b.weight a.weight");
  CHECK(
      order_of(
          kEqual + state({}) +
          groups("[{'param_names':['c.weight'],'params':[0]},{'param_names':['a.weight'],'params':[1]}]")) ==
      "names: c.weight a.weight");
}

TEST_CASE("names in the place of indices prove an order", "[model]") {
  CHECK(order_of(kEqual + std::string("o/state/b.weight/m float32 2; ") +
                 groups("[{'params':['b.weight','a.weight']}]")) == "names: b.weight a.weight");
}

TEST_CASE("a name that is no key, or is there twice, proves nothing", "[model]") {
  CHECK(order_of(kThree + state({"2x3", "9"}) +
                 groups("[{'param_names':['a.weight','d.weight'],'params':[0,1]}]")) ==
        "nothing: index 1 is named 'd.weight', which is no key of the state dict at 'm'");
  CHECK(order_of(kThree + state({}) + groups("[{'param_names':['a.weight','a.weight'],'params':[0,1]}]")) ==
        "nothing: indices 0 and 1 would both be 'a.weight'");
  CHECK(order_of(kThree + state({}) + groups("[{'param_names':['a.weight',7],'params':[0,1]}]")) ==
        "nothing: index 1 is named '', which is no key of the state dict at 'm'");
}

TEST_CASE("names and keys may differ by the names of wrappers, if all do", "[model]") {
  const std::string wrapped = "m/module.a.weight float32 2; m/module.b.weight float32 2; ";
  const std::string plain = "m/a.weight float32 2; m/b.weight float32 2; ";
  const std::string plain_names = "[{'param_names':['a.weight','b.weight'],'params':[0,1]}]";
  const std::string wrapped_names = "[{'param_names':['module.a.weight','module.b.weight'],'params':[0,1]}]";
  const std::string mixed_names = "[{'param_names':['module.a.weight','b.weight'],'params':[0,1]}]";
  CHECK(order_of(wrapped + state({}) + groups(plain_names)) == "names: module.a.weight module.b.weight");
  CHECK(order_of(plain + state({}) + groups(wrapped_names)) == "names: a.weight b.weight");
  CHECK(order_of(plain + state({}) + groups(mixed_names)) ==
        "nothing: index 0 is named 'module.a.weight', which is no key of the state dict at 'm'");
}

TEST_CASE("shapes prove an order where each index has one that one parameter has", "[model]") {
  const std::string two = "[{'params':[0,1]}]";
  CHECK(order_of(kThree + state({"5", "2x3"}) + groups(two)) == "shapes: c.weight a.weight");  // b is frozen
  CHECK(order_of(kThree + state({"5", "2x3"}) + groups("[{'params':[1]},{'params':[0]}]")) ==
        "shapes: a.weight c.weight");
  CHECK(
      order_of(std::string(
                   "m/a.weight float32 4; m/bn.running_mean float32 2; m/b.weight float32 2; m/n int64 2; ") +
               state({"2", "4"}) + groups(two)) == "shapes: b.weight a.weight");  // buffers don't count
}

TEST_CASE("the first index whose shape tells nothing is named", "[model]") {
  const std::string two = "[{'params':[0]},{'params':[1]}]";
  CHECK(order_of(kEqual + state({"5", "2"}) + groups(two)) ==
        "nothing: index 1 has the shape [2], as have 'a.weight' and 'b.weight'");
  CHECK(order_of("m/d.weight float32 2; m/e.weight float32 2; " + std::string(kEqual) + state({"5", "2"}) +
                 groups(two)) ==
        "nothing: index 1 has the shape [2], as have 'd.weight', 'e.weight' and 2 more");
  CHECK(order_of(kThree + state({"5", "7"}) + groups(two)) ==
        "nothing: index 1 has the shape [7], which no parameter of the state dict at 'm' has");
  CHECK(order_of(kThree + state({"5", ""}) + groups(two)) == "nothing: nothing tells the shape of index 1");
  CHECK(order_of(kThree + state({"5", "5"}) + groups(two)) ==
        "nothing: indices 0 and 1 would both be 'c.weight'");
  // a tensor of which nothing tells that it is a parameter makes a shape ambiguous all the same
  CHECK(order_of("m/a.weight float32 2; m/anchors float32 2; " + state({"2"}) +
                 groups("[{'params':[0]},{'params':[]}]")) ==
        "nothing: index 0 has the shape [2], as have 'a.weight' and 'anchors'");
}

TEST_CASE("one group that counts all parameters may be taken to be in the order of the keys", "[model]") {
  const std::string three = "[{'params':[0,1,2]}]";
  const std::string keys = "model-order: a.weight b.weight c.weight; ";
  const std::string why = "index 0 has the shape [2], as have 'a.weight' and 'b.weight'";
  CHECK(order_of(kEqual + state({"2", "2", "5"}) + groups(three)) == keys + why);
  CHECK(order_of(kEqual + state({"2", "", "5"}) + groups(three)) == keys + why);
  CHECK(order_of(kEqual + state({}) + groups(three)) == keys + "nothing tells the shape of index 0");
}

TEST_CASE("more groups, other numbers or another count are no order that can be assumed", "[model]") {
  const std::string why = "nothing: index 0 has the shape [2], as have 'a.weight' and 'b.weight'";
  CHECK(order_of(kEqual + state({"2", "2", "5"}) + groups("[{'params':[0]},{'params':[1,2]}]")) == why);
  CHECK(order_of(kEqual + state({"2", "2", "5"}) + groups("[{'params':[0,2,1]}]")) == why);
  CHECK(order_of(kEqual + state({"2", "5"}) + groups("[{'params':[0,1]}]")) ==
        why + ", and it counts 2 where the state dict at 'm' has 3 parameters");
  CHECK(order_of(kEqual + state({"2", "5", "2"}) + groups("[{'params':[0,1,2]}]")) ==
        "nothing: index 1 has the shape [5], but parameter 1 of the state dict at 'm' is 'b.weight' of shape "
        "[2]");
}

TEST_CASE("tensors that may be buffers are left out where the count wants it", "[model]") {
  const std::string model = "m/a.weight float32 2; m/anchors float32 2; m/b.weight float32 2; ";
  const std::string why = "; nothing tells the shape of index 0";
  CHECK(order_of(model + state({}) + groups("[{'params':[0,1,2]}]")) ==
        "model-order: a.weight anchors b.weight" + why);
  CHECK(order_of(model + state({}) + groups("[{'params':[0,1]}]")) == "model-order: a.weight b.weight" + why);
}

TEST_CASE("tied keys are one parameter, views of one storage are several", "[model]") {
  CHECK(
      order_of(
          "m/in.weight float32 4x2; m/mid.weight float32 3; m/out.weight float32 4x2 storage=m/in.weight; " +
          state({"3", "4x2"}) + groups("[{'params':[0,1]}]")) == "shapes: mid.weight in.weight+out.weight");
  CHECK(order_of("m/in.weight float32 4x2; m/out.weight float32 4x2 storage=m/in.weight; " + state({}) +
                 groups("[{'param_names':['out.weight'],'params':[0]}]")) == "names: in.weight+out.weight");
  CHECK(order_of("m/a.weight float32 4; m/b.weight float32 4 storage=m/a.weight offset=4; " + state({"4"}) +
                 groups("[{'params':[0]},{'params':[]}]")) ==
        "nothing: index 0 has the shape [4], as have 'a.weight' and 'b.weight'");
}

TEST_CASE("an order is that of the file, whatever edits have replaced, added and dropped", "[model]") {
  auto checkpoint = described(kThree + state({"2x3", "4", "5"}) + groups("[{'params':[0,1,2]}]"));
  const auto storage = checkpoint.add_storage(DataRef::of_bytes(Bytes(16)), Dtype::kFloat32);
  checkpoint.replace(0, 1, {Dtype::kFloat32, storage, 0, {2, 2}, {}});
  checkpoint.insert(0, "new.weight", {Dtype::kFloat32, storage, 0, {4}, {}});
  checkpoint.drop(0, 0);
  checkpoint.rename(0, 2, "x");
  CHECK(order_in(checkpoint) == "shapes: a.weight b.weight c.weight");
}
