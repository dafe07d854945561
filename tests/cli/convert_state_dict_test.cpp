// SPDX-License-Identifier: BSD-3-Clause
#include "support/cli_files.h"
#include "support/pickle_checkpoint.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

TEST_CASE("the one state dict becomes the file, what is around it goes", "[cli][convert]") {
  const Cli cli;
  const auto* const description =
      "epoch = 7; model/a.w float32 2x3; model/b.w float32 4; optimizer/state/#0/momentum_buffer float32 4; "
      "optimizer/param_groups = [{'params':[0]}]";
  for (const auto& bytes : {zip_of(description), legacy_of(description)}) {
    cli.write("in.pt", bytes);
    const auto report = cli.good("convert --state-dict in.pt --verify -f -o out.pt");
    CHECK(holds(report, "  root: the state dict at 'model'\n"));
    CHECK(holds(report, "  state dict: 2 of 2 keys kept, 40 B\n"));
    CHECK(holds(report, "  dropped: 'epoch', 'optimizer'\n"));
    CHECK(cli.keys("out.pt") == Keys{"a.w", "b.w"});
    CHECK(holds(cli.bad("inspect out.pt --get epoch"), "no 'epoch' in the file"));
  }
}

TEST_CASE("storages that nothing refers to any more are not written", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt",
            zip_of("big float32 100000; model/a float32 2; model/b float32 3 storage=model/a numel=5"));
  cli.good("convert -q --state-dict --root model in.pt -o out.pt");
  CHECK(cli.read("in.pt").size() > 400000);
  CHECK(cli.read("out.pt").size() < 5000);
  CHECK(holds(cli.good("inspect out.pt"), "2 tensors"));
}

// Tensors are written as `$`; the state of a quantised convolution ends in weight, bias, scale and zero
// point.
const std::string kTables =
    "BINUNICODE _parameters; EMPTY_DICT; BINUNICODE _buffers; EMPTY_DICT; BINUNICODE _modules; EMPTY_DICT; ";
const std::string kConvolution =
    "GLOBAL torch.ao.nn.quantized.modules.conv Conv2d; EMPTY_TUPLE; NEWOBJ; MARK; BININT1 1; BININT1 1; "
    "BININT1 1; "
    "BININT1 1; BININT1 1; BININT1 1; NEWFALSE; BININT1 0; BININT1 1; BINUNICODE zeros; $; NONE; BINFLOAT "
    "0.25; "
    "BININT1 7; NEWFALSE; TUPLE; BUILD; ";

std::string linear(const std::string& packed_class) {
  return "GLOBAL torch.nn.quantized.modules.linear Linear; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; " +
         kTables +
         "MARK; BINUNICODE _packed_params; GLOBAL torch.nn.quantized.modules.linear LinearPackedParams; "
         "EMPTY_TUPLE; "
         "NEWOBJ; EMPTY_DICT; MARK; " +
         kTables +
         "BINUNICODE dtype; GLOBAL torch qint8; BINUNICODE _packed_params; GLOBAL torch ScriptObject; " +
         "EMPTY_TUPLE; NEWOBJ; $; NONE; TUPLE2; BINUNICODE " + packed_class +
         "; TUPLE2; BUILD; SETITEMS; "
         "BUILD; "
         "SETITEMS; BINUNICODE scale; BINFLOAT 0.5; BINUNICODE zero_point; BININT1 3; SETITEMS; BUILD; ";
}

std::string net_of(const std::string& children) {
  return "GLOBAL m Net; EMPTY_TUPLE; NEWOBJ; EMPTY_DICT; MARK; " + kTables + "MARK; " + children +
         "SETITEMS; SETITEMS; BUILD";
}

TEST_CASE("quantised layers give what their code would", "[cli][convert]") {
  const Cli cli;
  cli.write(
      "in.pt",
      as_text(zip_of_pickle(net_of("BINUNICODE conv; " + kConvolution + "BINUNICODE fc; " +
                                   linear("__torch__.torch.classes.quantized.LinearPackedParamsBase")))));
  CHECK(cli.keys("in.pt") == Keys{"conv.weight"});
  CHECK(cli.good("inspect in.pt").find("module-keys-unknown") == std::string::npos);
  CHECK(holds(cli.good("convert --state-dict --verify in.pt -o out.pt"), "  state dict: 8 of 8 keys kept"));
  CHECK(cli.good("inspect --get conv.scale --values 1 out.pt").find("0.25") != std::string::npos);
  CHECK(cli.good("inspect --get conv.zero_point --values 1 out.pt").find('7') != std::string::npos);
  CHECK(cli.good("inspect --get fc.scale --values 1 out.pt").find("0.5") != std::string::npos);
  CHECK(holds(cli.good("inspect out.pt"), R"(["fc._packed_params._packed_params"][0])"));
  cli.good("apply -q -e 'convert --state-dict' -e 'rename-keys --map fc=head' in.pt -o renamed.pt");
  CHECK(holds(cli.good("inspect renamed.pt"), R"(["head._packed_params._packed_params"][0])"));
  CHECK(holds(cli.bad("convert --state-dict --to safetensors in.pt -o out.safetensors"), "'conv.bias'"));
}

TEST_CASE("layers that are packed in an unknown way are refused by name", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt",
            as_text(zip_of_pickle(net_of("BINUNICODE fc; " +
                                         linear("__torch__.torch.classes.sparse.LinearPackedParamsBase")))));
  CHECK(cli.good("inspect in.pt").find("module-keys-unknown") != std::string::npos);
  CHECK(holds(cli.bad("convert --state-dict in.pt -o out.pt"),
              "module 'fc._packed_params' is a torch.nn.quantized.modules.linear.LinearPackedParams: its "
              "weights are packed"));
}

TEST_CASE("of several state dicts one has to be named", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("ema/w float32 2; model/w float32 2"));
  CHECK(cli.bad("convert --state-dict in.pt -o out.pt") ==
        "ckpt: in.pt: only one state dict can become the root of the file, which has 2: 'ema', 'model'\n"
        "  hint: name it with --root PATH\n");
  cli.good("convert -q --state-dict --root ema in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w"});
  cli.good("apply -q -e 'filter-keys --drop-entry ema' -e 'convert --state-dict' in.pt -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w"});
  cli.write("none.pt", zip_of("epoch = 3"));
  CHECK(holds(cli.bad("convert --state-dict none.pt -o none-out.pt"), "no state dict in the file"));
}

TEST_CASE("a state dict at the root stays as it is", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 2"));
  CHECK(
      holds(cli.good("convert --state-dict in.pt -o out.pt"), "note: the root is the state dict already\n"));
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
  CHECK(cli.run("convert --state-dict --must-change in.pt -f -o out.pt").status == 1);
}

TEST_CASE("other edits act on the new root, in both orders", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("epoch = 1; model/module.a.w float32 2; model/module.b.w float32 3"));
  for (const auto* edits : {"-e 'convert --state-dict' -e strip -e 'filter --drop b'",
                            "-e strip -e 'filter --drop b' -e 'convert --state-dict'"}) {
    const auto report = cli.good("apply --verify " + std::string(edits) + " in.pt -f -o out.pt");
    CHECK(holds(report, "  state dict: 1 of 2 keys kept, 8 B\n"));
    CHECK(cli.keys("out.pt") == Keys{"a.w"});
  }
  CHECK(holds(cli.bad("apply -e 'convert --state-dict' -e 'filter --drop-entry epoch' in.pt -o no.pt"),
              "no 'epoch' in the file"));
}

TEST_CASE("a whole module gives its state dict", "[cli][convert]") {
  const Cli cli;
  for (const auto* file : {"torch-2.15-module.pt", "torch-2.15-module-legacy.pt", "torch-1.13-module.pt",
                           "torch-1.13-module-dataparallel-legacy.pt", "torch-2.15-module-dataparallel.pt"}) {
    CAPTURE(file);
    cli.take(file, "whole.pt");
    const auto report = cli.good("convert --state-dict whole.pt --verify -f -o out.pt");
    CHECK(holds(report, "  root: the state dict of the module\n"));
    CHECK(holds(report,
                "note: what code of classes outside PyTorch adds to a state dict (get_extra_state, a "
                "_version) is not in the file: 'vanished_project.Net'"));
    CHECK(cli.keys("out.pt") == cli.keys("whole.pt"));
    CHECK(holds(cli.good("inspect --globals out.pt"), "OrderedDict"));
    CHECK_FALSE(holds(cli.good("inspect --globals out.pt"), "vanished_project"));
    std::filesystem::remove("whole.pt");
  }
  cli.take("torch-2.15-module-nested.pt", "nested.pt");
  CHECK(holds(cli.good("convert --state-dict nested.pt -f -o out.pt"), "  dropped: 'epoch'\n"));
  cli.good(
      "apply -q -e 'convert --state-dict' -e 'filter --drop module.features' -e 'rename --strip-prefix "
      "module.' "
      "nested.pt --verify -f -o out.pt");
  CHECK(cli.keys("out.pt").front() == "mean");
}

}  // namespace
}  // namespace ckpt::test
