// SPDX-License-Identifier: BSD-3-Clause
#include <cmath>
#include <cstring>

#include <nlohmann/json.hpp>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Lines = std::vector<std::string>;

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("freeze-report shows groups, PEFT's line, memory, kinds and notes", "[cli][freeze-report]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  const Lines wanted = {
      "in.pt: torch zip, 3.97 kB",
      "",
      "state dict, 6 parameters and 3 buffers:",
      "  group  parameters  bytes  trainable  trainable%  buffers",
      "  conv           20   80 B          0      0.0000        0",
      "  bn              4   16 B          0      0.0000        5",
      "  fc              9   36 B          9    100.0000        0",
      "  all            33  132 B          9     27.2727        5",
      "",
      "  trainable params: 9 || all params: 33 || trainable%: 27.2727",
      "  2 of 6 parameters train",
      "  training takes 36 B of gradients and 80 B of optimizer state (adamw)",
      "  kinds: parameters by metadata 2, by name 4; buffers by metadata 3",
      "  note: 1 frozen norm layer still moves its statistics in training mode: 'bn'; call eval() on them "
      "after each "
      "model.train()",
  };
  CHECK(split_lines(cli.good("freeze-report in.pt --train-last 2")) == wanted);
  CHECK(cli.good("freeze in.pt --train-last 2") == cli.good("freeze-report in.pt --train fc"));
  CHECK(cli.good("freeze -q in.pt") == "");
}

TEST_CASE("numbers of parameters have separators, and a small share four decimals", "[cli][freeze-report]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a.weight float32 1000x1001; b.weight float32 7x3"));
  const auto text = cli.good("freeze in.pt --train b --optimizer-kind sgd --groups 0");
  CHECK(has(text, "  trainable params: 21 || all params: 1,001,021 || trainable%: 0.0021\n"));
  CHECK(has(text, "  training takes 84 B of gradients and 0 B of optimizer state (sgd)\n"));
}

TEST_CASE("--emit prints what a training script needs, and remarks on standard error",
          "[cli][freeze-report]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a.weight float32 2; \\\"q.weight float32 3 storage=q; bn.running_mean float32 "
                            "2; b.weight float32 2 "
                            "storage=a.weight"));
  const auto names = cli.run("freeze in.pt --train a --emit names");
  CHECK(names.out == "a.weight\n");
  CHECK(has(names.err, "note: 'b.weight' trains, whatever freezes it: it is one tensor with 'a.weight'\n"));
  CHECK(cli.good("freeze -q in.pt --train a --emit names -0") == std::string("a.weight\0", 9));
  const auto json = nlohmann::json::parse(cli.good("freeze -q in.pt --train a --emit json"));
  CHECK(json["trainable"] == Lines{"a.weight"});
  CHECK(json["frozen"] == Lines{"\"q.weight"});
  CHECK(json["buffers"] == Lines{"bn.running_mean"});
  CHECK(json["moving_statistics"] == Lines{"bn"});
  CHECK(json["optimizer"] == "adamw");
  const auto python = cli.good("freeze -q in.pt --train a --emit python --optimizer-kind momentum");
  CHECK(has(python, "    \"a.weight\": True,\n    \"\\\"q.weight\": False,\n    \"b.weight\": True,\n}\n"));
  CHECK(has(python,
            "tied = {  # second names of a parameter: the model lists the first\n    \"b.weight\",\n}\n"));
  CHECK(has(python, "statistics = [\n    \"bn\",\n]\n"));
  CHECK(has(python, "\noptimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)\n"));
  CHECK(
      has(cli.good("freeze -q in.pt --freeze '**' --emit python"), "\noptimizer = None  # nothing trains\n"));
}

TEST_CASE("--emit takes one state dict with parameters", "[cli][freeze-report]") {
  const Cli cli;
  cli.write("in.pt", zip_of("model/w.weight float32 2; ema/w.weight float32 2; rng/state uint8 2"));
  CHECK(cli.bad("freeze in.pt --emit names") ==
        "ckpt: in.pt: --emit takes one state dict, found 2: 'model', 'ema'\n  hint: choose one with --root "
        "PATH\n");
  CHECK(cli.good("freeze in.pt --emit names --root ema") == "w.weight\n");
  CHECK(cli.bad("freeze in.pt --emit names --root rng") ==
        "ckpt: in.pt: no state dict of the file has parameters\n");
  CHECK(cli.bad("freeze in.pt in.pt --emit names") == "ckpt: --emit takes one file, found 2\n");
  CHECK(has(cli.run("freeze in.pt --emit names --json").out, "--emit goes with neither --json nor --base"));
}

TEST_CASE("each state dict has a report, and the worst status of several files counts",
          "[cli][freeze-report]") {
  const Cli cli;
  cli.write("a.pt", zip_of("model/w.weight float32 2; ema/w.weight float32 2"));
  cli.write("b.pt", zip_of("w.weight float32 2"));
  const auto text = cli.good("freeze a.pt b.pt");
  CHECK(has(text, "state dict model, 1 parameter and 0 buffers:\n"));
  CHECK(has(text, "state dict ema, 1 parameter and 0 buffers:\n"));
  CHECK(has(text, "\n\nb.pt: torch zip, "));
  const auto done = cli.run("freeze missing.pt b.pt");
  CHECK(done.status == 2);
  CHECK(has(done.out, "b.pt: torch zip"));
  CHECK(has(done.err, "ckpt: missing.pt: cannot open"));
  const auto json = nlohmann::json::parse(cli.run("freeze missing.pt b.pt --json").out);
  CHECK(json["status"] == 2);
  CHECK(json["files"][0]["format"].is_null());
  CHECK(json["files"][1]["state_dicts"][0]["totals"]["parameters"]["numel"] == 2);
}

TEST_CASE("--base says which tensors are equal bit for bit", "[cli][freeze-report]") {
  const Cli cli;
  cli.write("base.pt",
            zip_of("a.weight float32 2; b.weight float32 2; c.weight float32 2; old.weight float32 2"));
  cli.write(
      "tuned.pt",
      zip_of("a.weight float32 2; b.weight float32 2 storage=x; c.weight float32 3; d.weight float32 1"));
  const auto text = cli.good("freeze tuned.pt --base base.pt --train c");
  CHECK(has(text,
            "  base 'base.pt': 1 of 4 tensors equal bit for bit\n"
            "    1 changed: 'b.weight'\n"
            "    1 of another shape: 'c.weight'\n"
            "    1 not in the base: 'd.weight'\n"
            "    1 only in the base: 'old.weight'\n"
            "    1 would be frozen, but changed: 'b.weight'\n"));
  const auto json = nlohmann::json::parse(cli.good("freeze tuned.pt --base base.pt --json"));
  const auto& dict = json["files"][0]["state_dicts"][0];
  CHECK(dict["base"]["equal"] == 1);
  CHECK(dict["base"]["only_in_base"] == Lines{"old.weight"});
  CHECK(dict["tensors"][1]["base"] == "changed");
  CHECK(cli.bad("freeze tuned.pt --base missing.pt").starts_with("ckpt: missing.pt: cannot open"));
  CHECK(cli.bad("freeze tuned.pt --base-root x") == "ckpt: --base-root goes with --base\n");
  cli.write("two.pt", zip_of("m/a.weight float32 2; n/a.weight float32 2 storage=a.weight"));
  CHECK(cli.bad("freeze tuned.pt --base two.pt") ==
        "ckpt: two.pt: several state dicts, and none at the root as in the file: 'm', 'n'\n  hint: choose "
        "one with "
        "--base-root PATH\n");
  CHECK(
      has(cli.good("freeze tuned.pt --base two.pt --base-root n"), "  base 'two.pt': 1 of 4 tensors equal"));
}

TEST_CASE("--base knows the names that safetensors tie to a tensor", "[cli][freeze-report]") {
  const Cli cli;
  cli.write("tied.pt", zip_of("a.weight float32 2; b.weight float32 2 storage=a.weight"));
  cli.good("convert tied.pt --to safetensors -o tied.st");
  const auto text = cli.good("freeze tied.pt --base tied.st");
  CHECK(has(text, "2 of 2 tensors equal bit for bit"));
  CHECK_FALSE(has(text, "not in the base"));
  CHECK_FALSE(has(cli.good("freeze tied.st --base tied.st"), "only in the base"));
}

TEST_CASE("--base says what was left out of its numbers, and why a tensor was not compared",
          "[cli][freeze-report]") {
  const Cli cli;
  const auto file = [](std::vector<float> values) {
    std::string buffer(4 * values.size(), '\0');
    std::memcpy(buffer.data(), values.data(), buffer.size());
    return std::string(as_text(
        safetensors_file(fmt::format(R"({{"a.weight":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}})",
                                     values.size(), buffer.size()),
                         buffer)));
  };
  cli.write("base.st", file({1, 2, 3, INFINITY}));
  cli.write("tuned.st", file({1, NAN, 4, 5}));
  CHECK(has(cli.good("freeze tuned.st --base base.st"),
            "    2 pairs with a NaN or an infinite value, left out of the distances: 'a.weight' (2)\n"));
  CHECK_FALSE(has(cli.good("freeze base.st --base base.st --json"), "left out"));
  cli.write("wide.pt", zip_of("a.weight float32 2; b.weight float32 400000000 strides=0"));
  CHECK(has(cli.good("freeze wide.pt --base wide.pt"),
            "    1 not compared, expanded far beyond its storage: 'b.weight'\n"));
  cli.take("torch-2.15-quantized.pt", "q.pt");
  CHECK(has(cli.good("freeze q.pt --base q.pt --parameters '**'"), " not compared, quantised: "));
}

TEST_CASE("patterns come from lists, and groups from an expression", "[cli][freeze-report]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.write("list", "fc.bias\n");
  CHECK(cli.good("freeze -q in.pt --train @=list --emit names") == "fc.bias\n");
  CHECK(has(cli.good("freeze in.pt --groups 're:weight$|bias$'"), "\n  weight  "));
  CHECK(has(cli.good("freeze in.pt --groups '(weight|bias)$'"), "\n  weight  "));
  CHECK(has(cli.bad("freeze in.pt --groups '('"), "ckpt: '(' is no regular expression: "));
  CHECK(has(cli.bad("freeze in.pt --optimizer-kind adagrad"),
            "expected sgd, momentum, adam or adamw, found adagrad"));
  CHECK(has(cli.bad("freeze in.pt --train-last -1"), "--train-last"));
}

TEST_CASE("whole modules are asked about by the kinds that they give", "[cli][freeze-report]") {
  const Cli cli;
  cli.take("torch-2.15-module-dataparallel.pt", "in.pt");
  const auto text = cli.good("freeze in.pt --train-last 2");
  CHECK(has(text, "module, 6 parameters and 4 buffers:\n"));
  CHECK(has(text, "  kinds: parameters by module 6; buffers by module 4\n"));
  CHECK(has(text, "\n  module.features  "));
}

}  // namespace
}  // namespace ckpt::test
