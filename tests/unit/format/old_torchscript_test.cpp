// SPDX-License-Identifier: BSD-3-Clause
// No PyTorch that is at hand writes or loads these archives. The inputs are made by hand, from torch.proto
// and protobuf's rules for JSON: lowerCamelCase names, 64-bit integers as strings, absent fields are
// defaults.
#include "ckpt/format/old_torchscript.h"

#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/model/parameter_roles.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

constexpr auto kModel = R"({
  "protoVersion": "3",
  "mainModule": {
    "name": "Net", "optimize": true, "torchscriptArena": {"key": "code/net.py"},
    "submodules": [
      {"name": "fc", "parameters": [{"isBuffer": false, "tensorId": "0", "name": "weight"},
                                    {"isBuffer": false, "tensorId": "1", "name": "bias"}]},
      {"name": "relu"}],
    "parameters": [{"isBuffer": true, "tensorId": "2", "name": "count"}, {"tensorId": "1", "name": "scale"}]},
  "producerName": "pytorch", "producerVersion": "1.0",
  "tensors": [
    {"dims": ["2", "3"], "offset": "0", "strides": ["1", "2"], "requiresGrad": true, "dataType": "FLOAT",
     "data": {"key": "tensors/0"}, "device": "cpu"},
    {"dims": ["2"], "offset": "1", "strides": ["1"], "dataType": "DOUBLE", "data": {"key": "tensors/1"}, "device": "cuda:0"},
    {"offset": "0", "dataType": "INT64", "data": {"key": "tensors/2"}, "device": "cpu"},
    {"dims": ["1"], "strides": ["1"], "dataType": "FLOAT", "data": {"key": "tensors/0"}, "device": "cpu"}]})";

Bytes archive(std::string_view model) {
  return build_zip(
      "net/model.json body=" + escaped(model) +
      ";net/tensors/0 zeros=24;net/tensors/1 zeros=24;net/tensors/2 zeros=8;net/version body=1\\n");
}

/// `kModel` with one text in place of another.
std::string changed(std::string_view from, std::string_view to) {
  std::string model = kModel;
  const auto at = model.find(from);
  REQUIRE(at != model.npos);
  return model.replace(at, from.size(), to);
}

Lines rows_of(const Checkpoint& checkpoint) {
  Lines out;
  for (const auto& tensor : checkpoint.tensors) {
    const auto role = role_of(checkpoint, tensor);
    out.push_back(fmt::format("{} {} {} {}", tensor.name, dtype_info(tensor.dtype).name,
                              fmt::join(checkpoint.shape(tensor), "x"), role_name(role.kind)));
  }
  return out;
}

TEST_CASE("an archive of PyTorch 1.0 to 1.3 is read as the state dict of its module", "[format]") {
  const auto checkpoint = read_bytes(archive(kModel)).value();
  CHECK(checkpoint.format == FormatId::kOldTorchScript);
  CHECK(rows_of(checkpoint) == Lines{"scale float64 2 parameter", "count int64  buffer",
                                     "fc.weight float32 2x3 parameter", "fc.bias float64 2 parameter",
                                     "tensors[3] float32 1 other"});
  REQUIRE(checkpoint.state_dicts.size() == 1);
  CHECK(checkpoint.state_dicts[0].of_module);
  CHECK(checkpoint.state_dicts[0].entries.size() == 4);
  CHECK(checkpoint.strides(checkpoint.tensors[2]) == std::vector<std::int64_t>{1, 2});
  CHECK(checkpoint.tensors[2].has(kRequiresGrad));
  CHECK(checkpoint.storages.size() == 3);
  CHECK(checkpoint.storages[checkpoint.tensors[0].storage].key == "tensors/1");
  CHECK(checkpoint.storages[checkpoint.tensors[0].storage].extent.size == 24);
  CHECK(checkpoint.devices[checkpoint.storages[checkpoint.tensors[0].storage].device] == "cuda:0");
}

TEST_CASE("numbers may be numbers, and data types too", "[format]") {
  const auto model = changed(R"("dataType": "INT64")", R"("dataType": 10)");
  CHECK(rows_of(read_bytes(archive(model)).value())[1] == "count int64  buffer");
  const auto numbers = changed(R"("dims": ["2", "3"], "offset": "0", "strides": ["1", "2"])",
                               R"("dims": [2, 3], "offset": 0, "strides": [1, 2])");
  CHECK(rows_of(read_bytes(archive(numbers)).value())[2] == "fc.weight float32 2x3 parameter");
}

TEST_CASE("a file without an edit is its own copy; an edit is refused with the way out", "[format]") {
  const auto bytes = archive(kModel);
  auto checkpoint = read_bytes(bytes).value();
  const auto& format = format_of(checkpoint.format);
  CHECK(written(format.lay_out(checkpoint).value(), checkpoint) == bytes);
  const auto storage = checkpoint.add_storage(DataRef::of_bytes(Bytes(8)), Dtype::kFloat32);
  checkpoint.replace(0, 3, {Dtype::kFloat32, storage, 0, {2}, {}});
  const auto layout = format.lay_out(checkpoint);
  REQUIRE_FALSE(layout);
  CHECK(layout.error().code() == ErrorCode::kUnsupported);
  CHECK(layout.error().hint() == "convert it with 'ckpt convert --to torch' and edit that file");
}

TEST_CASE("models that contradict themselves are damage, told with the number", "[format]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"no JSON", "it is no JSON object"},
      {"[]", "it is no JSON object"},
      {"{}", "the model has no 'mainModule'"},
      {changed(R"("tensorId": "2")", R"("tensorId": "4")"), "parameter 'count' names no tensor of the model"},
      {changed(R"("tensorId": "2")", R"("tensorId": "-1")"),
       "parameter 'count' names no tensor of the model"},
      {changed(R"("key": "tensors/2")", R"("key": "tensors/9")"), "the archive has no record 'tensors/9'"},
      {changed(R"("FLOAT")", R"("STRING")"), "tensor 0 of the model has no known 'dataType'"},
      {changed(R"(["2", "3"])", R"(["2", "30"])"),
       "tensor 0 of the model needs 240 bytes but record 'tensors/0' has 24"},
      {changed(R"(["2", "3"])", R"(["9223372036854775807", "9223372036854775807"])"),
       "tensor 0 of the model needs more than 2^64 bytes but record 'tensors/0' has 24"},
      {changed(R"(["2", "3"])", R"(["2"])"),
       "tensor 0 of the model has sizes, strides or an offset that can't be"},
      {changed(R"(["2", "3"])", R"(["-2", "3"])"),
       "tensor 0 of the model has sizes, strides or an offset that can't be"},
  };
  for (const auto& [model, message] : cases) {
    CAPTURE(message);
    CHECK(outcome(archive(model)) == "x: record 'model.json': " + message);
  }
}

TEST_CASE("modules nested without end and keys set twice are noticed", "[format]") {
  std::string nested;
  for (int i = 0; i < 1000; ++i) nested += R"({"name": "m", "submodules": [)";
  for (int i = 0; i < 1000; ++i) nested += "]}";
  CHECK(outcome(archive(R"({"mainModule": )" + nested + "}")) ==
        "x: record 'model.json': modules are nested more than 256 deep");
  CHECK(outcome(archive(changed(R"("name": "fc")", R"("name": ")" + std::string(9000, 'n') + '"'))) ==
        "x: record 'model.json': the name of a module has more than 8192 bytes");
  CHECK(outcome(archive(changed(R"("name": "scale")", R"("name": "fc.bias")"))) ==
        "read, error duplicate-key");
}

}  // namespace
