// SPDX-License-Identifier: BSD-3-Clause
// --to: the container of the output, for convert and for every other command that writes.
#include <nlohmann/json.hpp>

#include "support/checkpoint_builder.h"
#include "support/run_cli.h"

namespace ckpt::test {
namespace {

using nlohmann::json;

json file_of(const std::string& text) {
  const auto document = json::parse(text);
  REQUIRE(document["files"].size() == 1);
  return document["files"][0];
}

/// "torch-zip", …: what `inspect` says the file is.
std::string format_of_file(const Cli& cli, const std::string& file) {
  return file_of(cli.good("inspect --json " + file))["format"];
}

TEST_CASE("convert writes another container and says which", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  const auto told = cli.good("convert in.pt --to safetensors -o out.safetensors --verify");
  CHECK(told.find("converted: torch zip -> safetensors\n") != std::string::npos);
  CHECK(told.find("note: _metadata, the versions of the modules, is not in the output\n") !=
        std::string::npos);
  CHECK(format_of_file(cli, "out.safetensors") == "safetensors");
  CHECK(cli.keys("out.safetensors") == cli.keys("in.pt"));
  cli.good("convert out.safetensors --to torch -o back.pt --verify");
  CHECK(format_of_file(cli, "back.pt") == "torch-zip");
  cli.good("convert back.pt --to torch-legacy -o legacy.pt --verify");
  CHECK(format_of_file(cli, "legacy.pt") == "torch-legacy");
  CHECK(cli.keys("legacy.pt") == cli.keys("in.pt"));
}

TEST_CASE("a dry run tells the same and writes nothing", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-tied.pt", "in.pt");
  const auto dry = cli.good("convert in.pt --to safetensors -o out -n");
  CHECK_FALSE(cli.exists("out"));
  const auto real = cli.good("convert in.pt --to safetensors -o out");
  CHECK(dry == real + "  dry run: nothing written\n");
}

TEST_CASE("JSON has the format of the output", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  const auto converted = file_of(cli.good("convert in.pt --to torch-legacy -n --json"));
  CHECK(converted["format"] == "torch-zip");
  CHECK(converted["output_format"] == "torch-legacy");
  CHECK(converted["changed"] == true);
  const auto same = file_of(cli.good("convert in.pt --to torch -n --json"));
  CHECK(same["output_format"] == "torch-zip");
  CHECK(same["changed"] == false);
}

TEST_CASE("the container that the input has is no conversion", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.good("convert in.pt --to torch -o out.pt");
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
  CHECK(cli.run("convert in.pt --to torch -o other.pt --must-change").status == 1);
  CHECK_FALSE(cli.exists("other.pt"));
  cli.good("convert in.pt --to safetensors -o other --must-change");
}

TEST_CASE("every edit can change the container in the same pass", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  cli.good("strip in.pt --to safetensors -o stripped.safetensors --verify");
  CHECK(cli.keys("stripped.safetensors").front() == "conv.weight");
  cli.good("filter in.pt --keep '**.weight' --to torch-legacy -o weights.pt --verify");
  CHECK(format_of_file(cli, "weights.pt") == "torch-legacy");
  cli.good("apply -e strip -e 'filter --drop fc' in.pt --to safetensors -o both.safetensors --verify");
  cli.good("merge stripped.safetensors both.safetensors --to torch -o merged.pt --verify");
  CHECK(cli.keys("merged.pt") == cli.keys("stripped.safetensors"));
  cli.good("head stripped.safetensors --head fc --num-classes 7 --to torch -o head.pt --verify");
  CHECK(cli.good("inspect head.pt --get fc.weight").find("[7, ") != std::string::npos);
}

TEST_CASE("a plan remembers the container, and the command line decides", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-tied.pt", "in.pt");
  cli.write("plan.json", cli.good("convert --to safetensors --tied copy --print-plan"));
  cli.good("apply plan.json in.pt -o out.safetensors");
  CHECK(cli.keys("out.safetensors") == cli.keys("in.pt"));
  cli.good("apply plan.json in.pt --tied alias -o aliased.safetensors");
  CHECK(cli.keys("aliased.safetensors").size() + 1 == cli.keys("in.pt").size());
  cli.good("apply plan.json in.pt --to torch-legacy -o legacy.pt");
  CHECK(format_of_file(cli, "legacy.pt") == "torch-legacy");
  CHECK(cli.bad("convert in.pt --to safetensors --tied error -n") ==
        "ckpt: in.pt: tensors 'module.decoder.weight' and 'module.embed.weight' are one (--tied error)\n");
}

TEST_CASE("the same input and options give the same bytes, whatever the output is called", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.safetensors", "in.safetensors");
  cli.good("convert in.safetensors --to torch -o a.pt");
  cli.good("convert in.safetensors --to torch -o other.name.pth -q");
  CHECK(cli.read("a.pt") == cli.read("other.name.pth"));
  cli.take("torch-2.15-views.pt", "in.pt");
  cli.good("convert in.pt --to torch-legacy -o a.pt -f");
  cli.good("convert in.pt --to torch-legacy -i");
  CHECK(cli.read("a.pt") == cli.read("in.pt"));
}

TEST_CASE("what the target can't hold is said before anything is written", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-extra-state.pt", "in.pt");
  CHECK(cli.bad("convert in.pt --to safetensors -o out") ==
        "ckpt: in.pt: safetensors can't hold 'epoch', 'model[\"module.0._extra_state\"]'\n"
        "  hint: --tensors-only takes the tensors of the state dict alone (--root PATH names it)\n");
  CHECK_FALSE(cli.exists("out"));
  const auto document = json::parse(cli.run("convert in.pt --to safetensors -n --json").out);
  CHECK(document["errors"][0]["code"] == "unsupported");
  CHECK(document["files"][0]["bytes_out"] == 0);
}

TEST_CASE("a whole module becomes safetensors by way of its state dict", "[cli][convert]") {
  const Cli cli;
  cli.take("torch-2.15-module.pt", "in.pt");
  CHECK(cli.bad("convert in.pt --to safetensors -n") ==
        "ckpt: in.pt: a whole module stands in the file, not its state dict\n"
        "  hint: --state-dict makes the state dict of it\n");
  const auto told = cli.good("convert in.pt --state-dict --to safetensors -o out.safetensors --verify");
  CHECK(told.find("Parameter") == std::string::npos);
  CHECK(cli.keys("out.safetensors") == cli.keys("in.pt"));
}

/// docs/reference/containers.md, "Converting".
TEST_CASE("which container becomes which", "[cli][convert]") {
  struct Row {
    std::string file;
    std::string torch;
    std::string legacy;
    std::string safetensors;
  };

  const std::vector<Row> table = {
      {"torch-2.15-flat.pt", "yes", "yes", "yes"},
      {"torch-2.15-rezipped-stored.pt", "yes", "yes", "unsupported"},
      {"torch-2.15-rezipped-deflated.pt", "yes", "unsupported", "unsupported"},
      {"torch-2.15-flat-legacy.pt", "yes", "yes", "yes"},
      {"torch-2.15-dataparallel.safetensors", "yes", "yes", "yes"},
      {"torch-2.15-module.pt", "yes", "yes", "unsupported"},
      {"torch-2.15-module-legacy.pt", "yes", "yes", "unsupported"},
      {"torch-2.15-root-list.pt", "yes", "yes", "unsupported"},
      {"torch-2.15-training.pt", "yes", "yes", "unsupported"},
      {"torch-2.15-dtypes-untyped.pt", "yes", "unsupported", "unsupported"},
  };
  for (const auto& row : table) {
    const Cli cli;
    cli.take(row.file, "in");
    for (const auto& [to, expected] : {std::pair("torch", row.torch), std::pair("torch-legacy", row.legacy),
                                       std::pair("safetensors", row.safetensors)}) {
      INFO(row.file << " to " << to);
      const auto done = cli.run("convert in --json --verify -f -o out --to " + std::string(to));
      const auto document = json::parse(done.out);
      CHECK((done.status == 0 ? "yes" : document["errors"][0]["code"].get<std::string>()) == expected);
      CHECK(cli.exists("out") == (expected == "yes"));
      std::filesystem::remove("out");
    }
  }
}

}  // namespace
}  // namespace ckpt::test
