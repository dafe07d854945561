// SPDX-License-Identifier: BSD-3-Clause
// TorchScript archives through whole commands: what inspect tells, which edits work and which are refused.
#include "support/checkpoint_builder.h"
#include "support/run_cli.h"
#include "support/zip_builder.h"

namespace ckpt::test {
namespace {

using Lines = std::vector<std::string>;

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("inspect shows a TorchScript archive: keys, attributes, code", "[cli][torchscript]") {
  const Cli cli;
  for (const auto* version : {"1.13", "2.15"}) {
    CAPTURE(version);
    cli.take(std::string("torch-") + version + "-torchscript-attributes.pt", std::string(version) + ".pt");
    const auto file = std::string(version) + ".pt";
    CHECK(cli.keys(file) == Lines{"w", "scale", "hidden", "layers.0.weight", "layers.0.bias",
                                  "layers.1.weight", "layers.1.bias", "layers.1.running_mean",
                                  "layers.1.running_var", "layers.1.num_batches_tracked", "named.out.weight",
                                  "named.out.bias"});
    const auto text = cli.good("inspect " + file);
    CHECK(has(text, ": TorchScript, "));
    CHECK(has(text, "\nmodule, 12 keys:\n"));
    CHECK(has(text, "  @table.x  float32  [2]        8 B  other\n"));
    CHECK(has(text, "  @some[1]  float32  [2]        8 B  other\n"));
    CHECK(has(text, "  class __torch__.Attributes, methods: forward\n"));
    CHECK(has(text, "\n  code/__torch__.py "));
    CHECK(has(text, "layers.0.weight = named.out.weight [tied-tensors]"));
    CHECK_FALSE(has(text, "entries:"));
    const auto json = cli.good("inspect --json " + file);
    CHECK(has(json, R"("format":"torchscript")"));
    CHECK(
        has(json, R"("code":{"class":"__torch__.Attributes","methods":["forward"],"files":[{"name":"code/)"));
    CHECK(has(json, R"("constants":0,"bytecode":false})"));
    CHECK(has(
        json,
        R"("name":"layers.1.running_mean","root":"","section":"model","kind":"buffer","kind_from":"module")"));
    CHECK(has(json, R"({"path":"@large","kind":"int","value":1099511627776})"));
  }
}

TEST_CASE("constants of the code are tensors with the names that the code has", "[cli][torchscript]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-frozen.pt", "in.pt");
  const auto text = cli.good("inspect in.pt");
  CHECK(has(text, "\n  CONSTANTS.c0  float32  [2, 1, 3, 3]       72 B  other\n"));
  CHECK(has(text, "\n  4 constants\n"));
  CHECK(has(text, "[torchscript-constants]"));
  CHECK(cli.good("inspect --get CONSTANTS.c1 in.pt") == "CONSTANTS.c1 float32 [2] 8 B\n");
  CHECK(split_lines(cli.good("inspect --get CONSTANTS.c1 --values 2 in.pt")).size() == 2);
  CHECK(cli.bad("merge in.pt in.pt -o out.pt") ==
        "ckpt: in.pt: the module has no parameters and no buffers: its tensors are constants of the code, "
        "packed or "
        "other attributes\n");
}

TEST_CASE("values of a TorchScript module are got by key and by path", "[cli][torchscript]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-attributes.pt", "in.pt");
  CHECK(cli.good("inspect --get layers.0.bias in.pt") == "@layers@0@bias float32 [2] 8 B\n");
  CHECK(cli.good("inspect --get '@some[1]' in.pt") == "@some[1] float32 [2] 8 B\n");
  CHECK(cli.good("inspect --get @sizes in.pt") == "[1,2,3]\n");
  CHECK(cli.good("inspect --get @table in.pt") == "{\"x\":{\"@tensor\":\"float32\",\"shape\":[2]}}\n");
}

TEST_CASE("packed weights and bytecode are carried and shown", "[cli][torchscript]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-packed.pt", "packed.pt");
  CHECK(has(cli.good("inspect packed.pt"),
            "  @0@_packed_params@_packed_params<state>[0]  qint8    [2, 3]        6 B  other quantized\n"));
  cli.take("torch-2.15-torchscript-mobile.pt", "mobile.ptl");
  CHECK(has(cli.good("inspect mobile.ptl"), "\n  bytecode for the lite interpreter\n"));
  CHECK(cli.keys("mobile.ptl").size() == 9);
}

TEST_CASE("edits of keys are refused on TorchScript, with the way out", "[cli][torchscript]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript.pt", "in.pt");
  const std::string refusal =
      "ckpt: in.pt: the keys of a TorchScript archive are attributes that its code names: they can't be "
      "edited "
      "in place\n  hint: convert it with 'ckpt convert --to torch' and edit that file\n";
  for (const auto* command :
       {"rename in.pt --add-prefix x. -o out.pt", "strip in.pt -o out.pt",
        "filter in.pt --drop '0.bias' -o out.pt", "filter in.pt --drop-entry '@training' -o out.pt",
        "merge in.pt in.pt --keys union -o out.pt",
        "head in.pt --head 0 --num-classes 4 --rename 1 -o out.pt",
        "head in.pt --head 0 --num-classes 4 --no-bias -o out.pt"}) {
    CHECK(cli.bad(command) == refusal);
    CHECK_FALSE(cli.exists("out.pt"));
  }
}

/// The bytes of a tensor's values, as inspect prints them.
std::string values(const Cli& cli, const std::string& file, const std::string& key) {
  return cli.good("inspect " + file + " --values 100 --get '" + key + "'");
}

TEST_CASE("a TorchScript module takes values from a state dict, and gives them to one",
          "[cli][torchscript][merge]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-mobile.pt", "script.pt");
  cli.take("torch-2.15-flat.pt", "golden.pt");  // the values of script.pt
  cli.good("head golden.pt --num-classes 3 --seed 9 -o flat.pt");
  REQUIRE(values(cli, "script.pt", "fc.weight") != values(cli, "flat.pt", "fc.weight"));
  const auto report = cli.good("merge script.pt flat.pt --keys equal --verify -o out.pt");
  CHECK(has(report, "9 of 9 tensors of 'script.pt' now come from 'flat.pt'"));
  CHECK_FALSE(has(report, "note:"));
  for (const auto& key : cli.keys("out.pt")) CHECK(values(cli, "out.pt", key) == values(cli, "flat.pt", key));
  CHECK(has(cli.good("inspect out.pt"), "\n  bytecode for the lite interpreter\n"));
  cli.good("merge flat.pt script.pt -o back.pt");
  for (const auto& key : cli.keys("back.pt"))
    CHECK(values(cli, "back.pt", key) == values(cli, "script.pt", key));
  CHECK(has(cli.good("filter flat.pt --like script.pt -o like.pt"), "9 of 9 keys kept"));
}

TEST_CASE("a head of a TorchScript module is replaced; its code stays", "[cli][torchscript][head]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-mobile.pt", "in.pt");
  const auto report = cli.good("head in.pt --num-classes 5 --seed 1 --verify -o out.pt");
  CHECK(has(report, "    head 'fc': torch.Size([3, 2]) -> torch.Size([5, 2]), seed 1\n"));
  CHECK(has(report, "note: 2 tensors have another shape or dtype; the code stays as it is"));
  const auto text = cli.good("inspect out.pt");
  CHECK(has(text, "  fc.weight               float32  [5, 2] "));
  CHECK(has(text, "  fc.bias                 float32  [5] "));
  cli.take("torch-2.15-flat.pt", "flat.pt");
  cli.good("head flat.pt --num-classes 5 --seed 1 -o flat-out.pt");
  CHECK(values(cli, "out.pt", "fc.weight") == values(cli, "flat-out.pt", "fc.weight"));
}

TEST_CASE("a tied weight of a TorchScript module stays tied", "[cli][torchscript][merge]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-attributes.pt", "a.pt");
  cli.take("torch-1.13-torchscript-attributes.pt", "b.pt");
  cli.good("merge a.pt b.pt -o out.pt");
  CHECK(has(cli.good("inspect -s out.pt"), "layers.0.weight = named.out.weight [tied-tensors]"));
  CHECK(has(cli.good("inspect -s out.pt"), "in 17 storages"));
}

TEST_CASE("freeze-report knows the parameters of a TorchScript module", "[cli][torchscript]") {
  const Cli cli;
  cli.take("torch-2.15-torchscript-attributes.pt", "in.pt");
  const auto report = cli.good("freeze-report in.pt --train-last 2");
  CHECK(has(report, "TorchScript"));
  CHECK(cli.run("freeze-report in.pt --train-last 2 --emit names").out == "layers.1.bias\nnamed.out.bias\n");
}

TEST_CASE("an archive of PyTorch 1.0 to 1.3 is shown, taken from, and not edited", "[cli][torchscript]") {
  const Cli cli;
  const std::string model =
      R"({"mainModule": {"submodules": [{"name": "fc", "parameters": [{"tensorId": "0", "name": "bias"}]}]},)"
      R"( "tensors": [{"dims": ["2"], "strides": ["1"], "dataType": "FLOAT", "data": {"key": "tensors/0"}}]})";
  const auto bytes =
      build_zip("net/model.json body=" + escaped(model) + ";net/tensors/0 zeros=8;net/version body=1\\n");
  cli.write("old.pt", as_text(bytes));
  CHECK(has(cli.good("inspect old.pt"), ": old TorchScript, "));
  CHECK(cli.keys("old.pt") == Lines{"fc.bias"});
  CHECK(values(cli, "old.pt", "fc.bias") == "0\n0\n");
  cli.write("new.pt", as_text(build_torch_zip("fc.bias float32 2; fc.weight float32 2x2")));
  CHECK(
      has(cli.good("merge new.pt old.pt -o merged.pt"), "1 of 2 tensors of 'new.pt' now come from 'old.pt'"));
  CHECK(values(cli, "merged.pt", "fc.bias") == "0\n0\n");
  CHECK(cli.bad("merge old.pt new.pt -o out.pt") ==
        "ckpt: old.pt: a TorchScript archive of PyTorch 1.0 to 1.3 can't be edited in place; PyTorch 1.13 "
        "and later don't "
        "load it\n  hint: convert it with 'ckpt convert --to torch' and edit that file\n");
  CHECK(has(cli.bad("rename old.pt --add-prefix x. -o out.pt"),
            "hint: convert it with 'ckpt convert --to torch'"));
  for (const auto* options : {"--to torch", "--state-dict", "--to torch-legacy", "--to safetensors"}) {
    CAPTURE(options);
    cli.good(std::string("convert old.pt -f --verify -o converted.pt ") + options);
    CHECK(cli.keys("converted.pt") == Lines{"fc.bias"});
    CHECK(values(cli, "converted.pt", "fc.bias") == "0\n0\n");
  }
}

}  // namespace
}  // namespace ckpt::test
