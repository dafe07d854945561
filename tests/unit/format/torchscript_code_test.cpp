// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torchscript_code.h"

#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "ckpt/model/tensor_info.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

std::vector<ScriptClass> parsed(std::string_view code) {
  return parse_script_classes(code).value();
}

/// "name : type" of each attribute, with p and b for parameters and buffers.
std::vector<std::string> attributes_of(const ScriptClass& script_class) {
  std::vector<std::string> out;
  for (const auto& attribute : script_class.attributes) {
    out.push_back(fmt::format("{} : {}{}{}", attribute.name, attribute.type,
                              attribute.is_parameter ? " p" : "", attribute.is_buffer ? " b" : ""));
  }
  return out;
}

using Lines = std::vector<std::string>;

TEST_CASE("a class of code tells its attributes, parameters, buffers and methods", "[format]") {
  const auto classes = parsed(
      "def free(x: Tensor) -> Tensor:\n"
      "  __parameters__ = [\"no\", ]\n"
      "class Net(Module):\n"
      "  __parameters__ = [\"w\", \"0\", ]\n"
      "  __buffers__ = [\"b\", ]\n"
      "  w : Tensor\n"
      "  b : Tensor\n"
      "  d : Dict[str, Tensor]\n"
      "  __annotations__ = []\n"
      "  __annotations__[\"0\"] = Tensor\n"
      "  k : Final[int] = 3\n"
      "  def forward(self: __torch__.Net,\n"
      "    x: Tensor) -> Tensor:\n"
      "    y : Tensor = x\n"
      "    return y\n"
      "  def helper(self: __torch__.Net) -> int:\n"
      "    return 1\n"
      "class Color(Enum):\n"
      "  R = 1\n");
  REQUIRE(classes.size() == 2);
  CHECK(classes[0].name == "Net");
  CHECK(classes[0].is_module);
  CHECK(classes[0].lists_buffers);
  CHECK(attributes_of(classes[0]) ==
        Lines{"w : Tensor p", "b : Tensor b", "d : Dict[str, Tensor]", "0 : Tensor p"});
  CHECK(classes[0].methods == Lines{"forward", "helper"});
  CHECK(classes[0].position("d") == 2);
  CHECK(classes[0].position("k") == kNoIndex);
  CHECK(classes[1].name == "Color");
  CHECK_FALSE(classes[1].is_module);
}

TEST_CASE("names that are no identifiers are read as the code escapes them", "[format]") {
  const auto classes = parsed(
      "class Net(Module):\n"
      "  __parameters__ = [\"a\\\"b\", \"c\\\\d\", \"\\303\\251\", \"t\\tn\", ]\n"
      "  __annotations__[\"a\\\"b\"] = Tensor\n"
      "  __annotations__[\"c\\\\d\"] = Tensor\n"
      "  __annotations__[\"\\303\\251\"] = Tensor\n"
      "  __annotations__[\"t\\tn\"] = Tensor");
  REQUIRE(classes.size() == 1);
  CHECK(attributes_of(classes[0]) ==
        Lines{"a\"b : Tensor p", "c\\d : Tensor p", "é : Tensor p", "t\tn : Tensor p"});
  CHECK_FALSE(classes[0].lists_buffers);
}

TEST_CASE("a class whose lists can't be read is no class; the others stay", "[format]") {
  for (const auto* list : {"[\"a\"", "[\"a\"]", "[a, ]", "\"a\"", "[\"a", "[\"a\\", "[\"a\", \"b\" ]"}) {
    CAPTURE(list);
    const auto classes = parsed(fmt::format(
        "class Bad(Module):\n  __parameters__ = {}\n  a : Tensor\nclass Good(Module):\n  a : Tensor\n",
        list));
    REQUIRE(classes.size() == 1);
    CHECK(classes[0].name == "Good");
  }
}

TEST_CASE("names of 10,000 characters make no class and no attribute", "[format]") {
  const std::string name(10000, 'x');
  CHECK(parsed("class " + name + "(Module):\n  a : Tensor\n").empty());
  CHECK(parsed("class Net(Module):\n  " + name + " : Tensor\n").empty());
  CHECK(parsed("class Net(Module):\n  __annotations__[\"" + name + "\"] = Tensor\n").empty());
  CHECK_FALSE(is_script_class({"__torch__." + name, "Net"}));
}

TEST_CASE("code that declares without end is refused", "[format]") {
  std::string code;
  for (int i = 0; i < 300000; ++i) code += "class A(Module):\n";
  const auto classes = parse_script_classes(code);
  REQUIRE_FALSE(classes);
  CHECK(classes.error().code() == ErrorCode::kRefused);
  CHECK(parse_script_classes("class A(Module):\n  a : Tensor\n  b : Tensor\n", 4).ok());
  CHECK_FALSE(parse_script_classes("class A(Module):\n  a : Tensor\n  b : Tensor\n", 3).ok());
}

TEST_CASE("classes that C++ brings along are none of the code", "[format]") {
  CHECK(is_script_class({"__torch__", "Net"}));
  CHECK(is_script_class({"__torch__.a.b", "Net"}));
  CHECK_FALSE(is_script_class({"__torch__.torch.classes.quantized", "LinearPackedParamsBase"}));
  CHECK_FALSE(is_script_class({"__torch__x", "Net"}));
  CHECK_FALSE(is_script_class({"collections", "OrderedDict"}));
}

}  // namespace
