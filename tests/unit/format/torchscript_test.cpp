// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torchscript.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "ckpt/model/parameter_roles.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/script_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

/// Keys of the state dicts with their kinds.
Lines keys_of(const Checkpoint& checkpoint) {
  Lines out;
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const auto& dict = checkpoint.state_dicts[i];
    for (std::uint32_t k = 0; k < dict.entries.size(); ++k) {
      const auto role = role_of(checkpoint, checkpoint.tensors[dict.entries[k].tensor]);
      out.push_back(
          fmt::format("{} {} {}", checkpoint.name(i, k), role_name(role.kind), evidence_name(role.evidence)));
    }
  }
  return out;
}

Lines paths_of(const Checkpoint& checkpoint) {
  Lines out;
  for (const auto& tensor : checkpoint.tensors) out.push_back(checkpoint.path(tensor.place));
  return out;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

TEST_CASE("a TorchScript archive counts as the state dict of its module", "[format]") {
  const auto checkpoint = read_bytes(small_script().build()).value();
  CHECK(checkpoint.format == FormatId::kTorchScript);
  REQUIRE(checkpoint.state_dicts.size() == 1);
  CHECK(checkpoint.state_dicts[0].of_module);
  CHECK(checkpoint.path(checkpoint.state_dicts[0].place) == "");
  CHECK(keys_of(checkpoint) ==
        Lines{"scale buffer module", "fc.weight parameter module", "fc.bias parameter module"});
  CHECK(paths_of(checkpoint) == Lines{"@scale", "@plain", "@fc@weight", "@fc@bias"});
  const auto* code = script_code(checkpoint);
  REQUIRE(code != nullptr);
  CHECK(code->root_class == "__torch__.Net");
  CHECK(code->methods == Lines{"forward"});
  CHECK(code->files.size() == 2);
  CHECK_FALSE(code->has_bytecode);
}

TEST_CASE("keys come in the order of the code: parameters, buffers, children", "[format]") {
  auto pieces = small_script();
  auto& code = pieces.records["code/__torch__.py"];
  code =
      "class Net(Module):\n  __parameters__ = [\"plain\", ]\n  __buffers__ = [\"scale\", ]\n"
      "  fc : __torch__.layers.Linear\n  scale : Tensor\n  plain : Tensor\n  training : bool\n";
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(keys_of(checkpoint) == Lines{"plain parameter module", "scale buffer module",
                                     "fc.weight parameter module", "fc.bias parameter module"});
  CHECK(paths_of(checkpoint) == Lines{"@plain", "@scale", "@fc@weight", "@fc@bias"});
}

TEST_CASE("a module in two places gives its keys in both", "[format]") {
  auto pieces = small_script();
  auto& object = pieces.object;
  object.insert(object.rfind("; SETITEMS; BUILD; STOP"), "; BINPUT 7; BINUNICODE \"head\"; BINGET 7");
  replace_all(pieces.records["code/__torch__.py"], "  fc : __torch__.layers.Linear\n",
              "  fc : __torch__.layers.Linear\n  head : __torch__.layers.Linear\n");
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(keys_of(checkpoint) == Lines{"scale buffer module", "fc.weight parameter module",
                                     "fc.bias parameter module", "head.weight parameter module",
                                     "head.bias parameter module"});
  CHECK(paths_of(checkpoint) ==
        Lines{"@scale", "@plain", "@fc@weight", "@fc@bias", "@head@weight", "@head@bias"});
  CHECK(checkpoint.storages.size() == 4);
}

TEST_CASE("a module that contains itself is damage", "[format]") {
  auto pieces = small_script();
  auto& object = pieces.object;
  object.insert(object.find("NEWOBJ") + 6, "; BINPUT 7");
  object.insert(object.rfind("; SETITEMS; BUILD; STOP"), "; BINUNICODE \"self\"; BINGET 7");
  replace_all(pieces.records["code/__torch__.py"], "  plain : Tensor\n",
              "  plain : Tensor\n  self : __torch__.Net\n");
  CHECK(outcome(pieces.build()) == "x: record 'data.pkl': the module at the root contains itself");
}

TEST_CASE("modules shared over and over are refused, not repeated without end", "[format]") {
  ScriptPieces pieces;
  std::string object = script_object("__torch__ Leaf", {{"w", script_tensor("0", 1, true)}});
  for (int level = 0; level < 40; ++level) {
    object = script_object("__torch__ Twice", {{"a", fmt::format("{}; BINPUT {}", object, level)},
                                               {"b", fmt::format("BINGET {}", level)}});
  }
  pieces.object = "PROTO 2; " + object + "; STOP";
  pieces.records["code/__torch__.py"] =
      "class Leaf(Module):\n  __parameters__ = [\"w\", ]\n  w : Tensor\n"
      "class Twice(Module):\n  a : __torch__.Twice\n  b : __torch__.Twice\n";
  pieces.add_storage("data/0", 1);
  const auto error = outcome(pieces.build());
  CHECK(error.find("modules are shared so often") != std::string::npos);
}

TEST_CASE("code without lists of buffers makes every tensor a key, of a kind that nothing tells",
          "[format]") {
  auto pieces = small_script();
  for (auto& [name, text] : pieces.records) {
    replace_all(text, "  __buffers__ = []\n", "");
    replace_all(text, "  __buffers__ = [\"scale\", ]\n", "");
  }
  std::vector<std::string> findings;
  const auto checkpoint = read_bytes(pieces.build(), &findings).value();
  CHECK(keys_of(checkpoint) == Lines{"scale unknown nothing", "plain unknown nothing",
                                     "fc.weight parameter module", "fc.bias parameter module"});
  CHECK(findings == Lines{"info torchscript-buffers-unlisted"});
}

TEST_CASE("a class that the code lacks leaves its tensors outside the state dict", "[format]") {
  auto pieces = small_script();
  pieces.leave_out = {"code/__torch__/layers.py"};
  std::vector<std::string> findings;
  const auto checkpoint = read_bytes(pieces.build(), &findings).value();
  CHECK(keys_of(checkpoint) == Lines{"scale buffer module"});
  CHECK(checkpoint.tensors.size() == 4);
  CHECK(findings == Lines{"warning torchscript-class-unknown"});
}

TEST_CASE("without the class of the root there is no state dict", "[format]") {
  auto pieces = small_script();
  pieces.leave_out = {"code/__torch__.py"};
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(checkpoint.state_dicts.empty());
  CHECK(checkpoint.tensors.size() == 4);
  CHECK(checkpoint.tensors[0].name.empty());
}

TEST_CASE("code that can't be read makes its classes unknown", "[format]") {
  auto pieces = small_script();
  auto& code = pieces.records["code/__torch__/layers.py"];
  for (int i = 0; i < 300000; ++i) code += "class A(Module):\n";
  std::vector<std::string> findings;
  const auto checkpoint = read_bytes(pieces.build(), &findings).value();
  CHECK(keys_of(checkpoint) == Lines{"scale buffer module"});
  CHECK(findings == Lines{"warning torchscript-code-unreadable", "warning torchscript-class-unknown"});
}

TEST_CASE("constants are listed by the name that the code has for them", "[format]") {
  auto pieces = small_script();
  pieces.constants = "PROTO 2; NONE; " + script_tensor("0", 4) + "; TUPLE2; STOP";
  pieces.add_storage("constants/0", 4);
  std::vector<std::string> findings;
  const auto checkpoint = read_bytes(pieces.build(), &findings).value();
  REQUIRE(checkpoint.tensors.size() == 5);
  CHECK(checkpoint.path(checkpoint.tensors[4].place) == "CONSTANTS.c1");
  CHECK(checkpoint.tensors[4].state_dict == kNoIndex);
  CHECK(checkpoint.storages[checkpoint.tensors[4].storage].key == "constants/0");
  CHECK(script_code(checkpoint)->constants == 2);
  CHECK(findings == Lines{"info torchscript-constants"});
}

TEST_CASE("lists and dicts of TorchScript are lists and dicts", "[format]") {
  ScriptPieces pieces;
  const auto list = "GLOBAL torch.jit._pickle build_tensorlist; MARK; EMPTY_LIST; MARK; " +
                    script_tensor("0", 1) + "; APPENDS; TUPLE; REDUCE";
  const auto dict = "GLOBAL torch.jit._pickle restore_type_tag; EMPTY_DICT; MARK; BINUNICODE x; " +
                    script_tensor("1", 2) + "; SETITEMS; BINUNICODE \"Dict[str, Tensor]\"; TUPLE2; REDUCE";
  pieces.object = "PROTO 2; " + script_object("__torch__ Net", {{"l", list}, {"d", dict}}) + "; STOP";
  pieces.records["code/__torch__.py"] =
      "class Net(Module):\n  __parameters__ = []\n  __buffers__ = []\n  l : List[Tensor]\n"
      "  d : Dict[str, Tensor]\n";
  pieces.add_storage("data/0", 1);
  pieces.add_storage("data/1", 2);
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(paths_of(checkpoint) == Lines{"@l[0]", "@d.x"});
  CHECK(checkpoint.state_dicts.empty());
}

TEST_CASE("storage classes that only TorchScript has are known in its archives alone", "[format]") {
  auto pieces = small_script();
  replace_all(pieces.object, "FloatStorage; BINUNICODE \"3\"", "UInt32Storage; BINUNICODE \"3\"");
  const auto checkpoint = read_bytes(pieces.build()).value();
  CHECK(checkpoint.tensors[1].dtype == Dtype::kUint32);
  CHECK_FALSE(checkpoint.storages[checkpoint.tensors[1].storage].untyped);
  pieces.leave_out = {"constants.pkl"};
  CHECK(outcome(pieces.build()).find("unknown storage class 'UInt32Storage'") != std::string::npos);
}

TEST_CASE("damage to an archive is told with its place", "[format]") {
  auto pieces = small_script();
  pieces.leave_out = {"data.pkl"};
  CHECK(outcome(pieces.build()) == "x: the TorchScript archive has no 'data.pkl'");
  pieces = small_script();
  pieces.leave_out = {"version"};
  CHECK(outcome(pieces.build()) == "x: the archive has no 'version' record, which every PyTorch asks for");
  pieces = small_script();
  pieces.leave_out = {"data/2"};
  CHECK(outcome(pieces.build()) == "x: record 'data.pkl': at '@fc@bias': the archive has no record 'data/2'");
  pieces = small_script();
  pieces.constants = "PROTO 2; EMPTY_LIST; STOP";
  CHECK(outcome(pieces.build()) == "x: record 'constants.pkl': the constants are a list, expected a tuple");
  pieces = small_script();
  pieces.records["version"] = "11\n";
  CHECK(outcome(pieces.build()) == "x: record 'version': file format version '11\\n' is not one of 1 to 10");
  pieces = small_script();
  pieces.records["byteorder"] = "big";
  CHECK(outcome(pieces.build()) == "read, error torchscript-big-endian");
}

/// A view of an added storage of `numel` zeros.
TensorView zeros(Checkpoint& checkpoint, std::int64_t numel, Dtype dtype = Dtype::kFloat32) {
  const auto size = static_cast<std::size_t>(numel) * dtype_info(dtype).item_size;
  return {dtype, checkpoint.add_storage(DataRef::of_bytes(Bytes(size)), dtype), 0, {numel}, {}};
}

/// Lays the edited checkpoint out and reads it again.
Result<Checkpoint> again(const Checkpoint& checkpoint) {
  CKPT_ASSIGN_OR_RETURN(const auto layout, format_of(checkpoint.format).lay_out(checkpoint));
  return read_bytes(written(layout, checkpoint));
}

/// data.pkl of the edited checkpoint.
Bytes pickle_after(const Checkpoint& checkpoint) {
  const auto after = again(checkpoint).value();
  const auto text = after.graph().text();
  return {text.begin(), text.end()};
}

std::string shapes(const Checkpoint& checkpoint) {
  std::string out;
  for (const auto& tensor : checkpoint.tensors) {
    out += fmt::format("{} {} {}; ", checkpoint.path(tensor.place), dtype_info(tensor.dtype).name,
                       fmt::join(checkpoint.shape(tensor), "x"));
  }
  return out;
}

TEST_CASE("an edit changes the pickle and the storages that it touches", "[format]") {
  const auto input = small_script().build();
  auto checkpoint = read_bytes(input).value();
  CHECK(written(format_of(checkpoint.format).lay_out(checkpoint).value(), checkpoint) == input);
  checkpoint.replace(0, 2, zeros(checkpoint, 5));
  const auto after = again(checkpoint).value();
  CHECK(after.format == FormatId::kTorchScript);
  CHECK(keys_of(after) == keys_of(checkpoint));
  CHECK(shapes(after) == "@scale float32 1; @plain float32 3; @fc@weight float32 6; @fc@bias float32 5; ");
  const auto before_lines = table(read_bytes(input).value());
  const auto after_lines = table(after);
  for (const std::size_t row : {0U, 1U, 2U}) CHECK(after_lines[row] == before_lines[row]);
  CHECK(after.tensors[3].has(kRequiresGrad));
  CHECK(after.storages[after.tensors[3].storage].key == "4");
  CHECK(after.unreferenced_storages.empty());
  CHECK(script_code(after)->files == script_code(checkpoint)->files);
}

TEST_CASE("constants stay when a storage goes that has the same key", "[format]") {
  auto pieces = small_script();
  pieces.constants = "PROTO 2; " + script_tensor("2", 4) + "; TUPLE1; STOP";
  pieces.add_storage("constants/2", 4);
  auto checkpoint = read_bytes(pieces.build()).value();
  checkpoint.replace(0, 2, zeros(checkpoint, 2));
  const auto after = again(checkpoint).value();
  CHECK(after.tensors.back().state_dict == kNoIndex);
  CHECK(table(after).back() == table(checkpoint).back());
}

TEST_CASE("new values are spelled so that TorchScript reads them", "[format]") {
  auto checkpoint = read_bytes(small_script().build()).value();
  SECTION("an integer beyond 32 bits has 8 bytes") {
    auto view = zeros(checkpoint, 1);
    view.shape = {std::int64_t{1} << 33};
    view.strides = {0};
    checkpoint.replace(0, 2, view);
    const auto text = pickle_after(checkpoint);
    const auto number = as_bytes(std::string_view("\x8a\x08\0\0\0\0\x02\0\0\0", 10));
    CHECK(std::search(text.begin(), text.end(), number.begin(), number.end()) != text.end());
  }
  SECTION("a dtype without a storage class in Python has one here") {
    checkpoint.replace(0, 0, zeros(checkpoint, 3, Dtype::kUint16));
    const auto text = pickle_after(checkpoint);
    CHECK(as_text(text).find("torch\nUInt16Storage\n") != std::string_view::npos);
    CHECK(as_text(text).find("_rebuild_tensor_v3") == std::string_view::npos);
    CHECK(shapes(again(checkpoint).value()).starts_with("@scale uint16 3; "));
  }
}

/// `small_script` with fc.weight in a list of another attribute as well, as an LSTM has its weights.
ScriptPieces script_with_alias() {
  auto pieces = small_script();
  auto& object = pieces.object;
  const auto weight = script_tensor("1", 6, true);
  object.insert(object.find(weight) + weight.size(), "; BINPUT 9");
  object.insert(
      object.rfind("; SETITEMS; BUILD; STOP"),
      "; BINUNICODE \"flat\"; GLOBAL torch.jit._pickle build_tensorlist; MARK; EMPTY_LIST; MARK; BINGET 9; "
      "APPENDS; TUPLE; REDUCE");
  replace_all(pieces.records["code/__torch__.py"], "  plain : Tensor\n",
              "  plain : Tensor\n  flat : List[Tensor]\n");
  return pieces;
}

TEST_CASE("a tensor that another attribute holds as well is replaced there, too", "[format]") {
  auto checkpoint = read_bytes(script_with_alias().build()).value();
  REQUIRE(paths_of(checkpoint) == Lines{"@scale", "@plain", "@fc@weight", "@fc@bias", "@flat[0]"});
  checkpoint.replace(0, 1, zeros(checkpoint, 4));
  const auto after = again(checkpoint).value();
  CHECK(shapes(after) ==
        "@scale float32 1; @plain float32 3; @fc@weight float32 4; @fc@bias float32 2; @flat[0] float32 4; ");
  CHECK(after.graph().resolve(after.tensors[2].use) == after.graph().resolve(after.tensors[4].use));
}

TEST_CASE("keys that are one attribute can't become different tensors", "[format]") {
  auto pieces = small_script();
  auto& object = pieces.object;
  object.insert(object.rfind("; SETITEMS; BUILD; STOP"), "; BINPUT 7; BINUNICODE \"head\"; BINGET 7");
  replace_all(pieces.records["code/__torch__.py"], "  fc : __torch__.layers.Linear\n",
              "  fc : __torch__.layers.Linear\n  head : __torch__.layers.Linear\n");
  auto checkpoint = read_bytes(pieces.build()).value();
  const auto view = zeros(checkpoint, 4);
  checkpoint.replace(0, 1, view);
  const auto error = again(checkpoint);
  REQUIRE_FALSE(error);
  CHECK(error.error().code() == ErrorCode::kUnsupported);
  CHECK(error.error().message().find("'fc.weight' and 'head.weight' are one attribute") != std::string::npos);
  checkpoint.replace(0, 3, view);
  const auto after = again(checkpoint).value();
  CHECK(
      shapes(after) ==
      "@scale float32 1; @plain float32 3; @fc@weight float32 4; @fc@bias float32 2; @head@weight float32 4; "
      "@head@bias float32 2; ");
}

TEST_CASE("a tied tensor stays one object where all its keys get one tensor", "[format]") {
  auto pieces = script_with_alias();
  replace_all(pieces.object, "BINUNICODE \"plain\"; " + script_tensor("3", 3), "BINUNICODE \"other\"; NONE");
  replace_all(
      pieces.object,
      "; GLOBAL torch.jit._pickle build_tensorlist; MARK; EMPTY_LIST; MARK; BINGET 9; APPENDS; TUPLE; REDUCE",
      "; BINGET 9");
  replace_all(pieces.records["code/__torch__.py"], "__parameters__ = []", "__parameters__ = [\"flat\", ]");
  auto checkpoint = read_bytes(pieces.build()).value();
  REQUIRE(keys_of(checkpoint).front() == "flat parameter module");
  SECTION("equal views") {
    const auto view = zeros(checkpoint, 4);
    checkpoint.replace(0, 0, view);
    checkpoint.replace(0, 2, view);
    const auto after = again(checkpoint).value();
    CHECK(after.graph().resolve(after.tensors[0].use) == after.graph().resolve(after.tensors[2].use));
    CHECK(after.storages.size() == 3);
  }
  SECTION("other ones are separated") {
    checkpoint.replace(0, 0, zeros(checkpoint, 4));
    checkpoint.replace(0, 2, zeros(checkpoint, 5));
    CHECK(shapes(again(checkpoint).value()) ==
          "@flat float32 4; @scale float32 1; @fc@weight float32 5; @fc@bias float32 2; ");
  }
  SECTION("one that is not replaced stays as it is") {
    checkpoint.replace(0, 2, zeros(checkpoint, 5));
    CHECK(shapes(again(checkpoint).value()) ==
          "@flat float32 6; @scale float32 1; @fc@weight float32 5; @fc@bias float32 2; ");
  }
}

}  // namespace
