// SPDX-License-Identifier: BSD-3-Clause
// What programs of this kind are known to get wrong, one case each. The first line of a case says what
// happens there.
#include <filesystem>

#include <fmt/format.h>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

std::string values(const Cli& cli, const std::string& file, const std::string& key) {
  return cli.good(fmt::format("inspect {} --get '{}' --values 999", file, key));
}

TEST_CASE("an input that is missing or no checkpoint is status 2 in every command that edits",
          "[cli][pitfalls]") {
  // The message is printed, and the status is 0: the next step of a pipeline works with what was there
  // before.
  const Cli cli;
  cli.write("base.pt", zip_of("fc.weight float32 3x2"));
  cli.write("text.pt", "no checkpoint");
  for (const std::string command :
       {"strip", "filter --drop x", "rename --add-prefix a.", "head --num-classes 2", "apply -e strip"}) {
    for (const std::string file : {"missing.pt", "text.pt"}) {
      CAPTURE(command, file);
      CHECK(cli.bad(command + " " + file + " -o out.pt").starts_with("ckpt: " + file + ": "));
      CHECK_FALSE(cli.exists("out.pt"));
    }
  }
  CHECK(cli.bad("merge base.pt missing.pt -o out.pt").starts_with("ckpt: missing.pt: "));
  CHECK(cli.bad("merge base.pt text.pt -o out.pt").starts_with("ckpt: text.pt: "));
  CHECK(cli.bad("freeze missing.pt").starts_with("ckpt: missing.pt: "));
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("nothing is written but the output, wherever that is", "[cli][pitfalls]") {
  // A temporary file lies in the working directory, which is full, not writable, or on another file system.
  const Cli cli;
  cli.write("in.pt", zip_of("module.fc.weight float32 3x2"));
  std::filesystem::create_directory("outputs");
  std::filesystem::create_directory("here");
  std::filesystem::current_path("here");
  for (const std::string command :
       {"strip ../in.pt", "merge ../in.pt ../in.pt", "head ../in.pt --num-classes 2"})
    cli.good(command + " -q -f -o ../outputs/out.pt");
  CHECK(std::filesystem::is_empty("."));
  std::filesystem::current_path("..");
  CHECK(cli.dir().names() == Keys{"here", "in.pt", "outputs"});
}

TEST_CASE("_metadata outlives every edit", "[cli][pitfalls]") {
  // The state dict becomes a plain dict; its batch norms count as of before PyTorch 0.4.1, and strict loading
  // asks for less.
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "flat.pt");
  cli.take("torch-2.15-dataparallel.pt", "wrapped.pt");
  for (const std::string command :
       {"strip wrapped.pt", "filter flat.pt --drop fc", "filter flat.pt --like flat.pt",
        "merge flat.pt flat.pt", "merge flat.pt flat.pt --keys union",
        "head flat.pt --head fc --num-classes 2", "rename flat.pt --map fc=head",
        "apply -e strip -e 'filter --drop fc' wrapped.pt"}) {
    CAPTURE(command);
    cli.good(command + " -q -f -o out.pt");
    CHECK(cli.good("inspect out.pt --get @_metadata.bn.version") == "2\n");
  }
}

TEST_CASE("the first key decides nothing, and seven letters are no prefix", "[cli][pitfalls]") {
  // If the first key begins with `module`, seven characters are cut from every key.
  const Cli cli;
  cli.write("in.pt",
            zip_of("module.a.weight float32 2; encoder.weight float32 2; modules.0.weight float32 2"));
  const Keys keys = {"module.a.weight", "encoder.weight", "modules.0.weight"};
  cli.good("strip -q in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == keys);
  cli.good("rename -q in.pt --strip-prefix module. -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"a.weight", "encoder.weight", "modules.0.weight"});
  cli.write("modules.pt", zip_of("modules.0.weight float32 2; modules.1.weight float32 2"));
  cli.good("strip -q modules.pt -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"modules.0.weight", "modules.1.weight"});
}

TEST_CASE("a word in a pattern is a word and no set of letters", "[cli][pitfalls]") {
  // What is meant to leave out `init*` leaves out every name that begins with one of its letters.
  const Cli cli;
  cli.write("in.pt",
            zip_of("initial float32 2; input float32 2; norm float32 2; t float32 2; init float32 2"));
  cli.good("filter -q in.pt --drop 'init*' -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"input", "norm", "t"});
  cli.good("filter -q in.pt --keep '!init*' -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"input", "norm", "t"});
}

TEST_CASE("a merge takes tensors of every kind, wherever the state dict stands", "[cli][pitfalls]") {
  // Tensors without dimensions, views with gaps, Parameters, or dicts under another name than state_dict are
  // refused or passed over.
  const Cli cli;
  cli.write(
      "base.pt",
      zip_of("scalar float32 scalar; gaps float32 3; parameter float32 2 parameter; steps int64 scalar"));
  cli.write("other.pt",
            zip_of("pad float32 3; wide float32 9; net/scalar float32 scalar storage=pad offset=2; "
                   "net/gaps float32 3 storage=wide offset=1 strides=3; net/steps int64 scalar; "
                   "net/parameter float32 2 parameter storage=wide offset=5"));
  cli.good("merge base.pt other.pt --other-root net -o out.pt");
  for (const std::string key : {"scalar", "gaps", "parameter", "steps"})
    CHECK(values(cli, "out.pt", key) == values(cli, "other.pt", "net." + key));
  CHECK(cli.keys("out.pt") == cli.keys("base.pt"));
}

TEST_CASE("no dtype is left out or becomes another", "[cli][pitfalls]") {
  // Integers and bools are skipped with a remark and status 0, counters become floats, halves become float32.
  const Cli cli;
  cli.take("torch-2.15-dtypes.pt", "dtypes.pt");
  const auto said = cli.good("inspect dtypes.pt");
  const auto keys = cli.keys("dtypes.pt");
  cli.write("base.pt", zip_of("mine float32 1"));
  cli.good("merge -q base.pt dtypes.pt --keys union -o out.pt");
  cli.good("filter -q out.pt --drop mine -f -o merged.pt");
  cli.good("filter -q dtypes.pt --keep '**' -f -o kept.pt");
  for (const std::string file : {"merged.pt", "kept.pt"}) {
    CHECK(cli.keys(file) == keys);
    for (const auto& key : keys) {
      CAPTURE(file, key);
      CHECK(values(cli, file, key) == values(cli, "dtypes.pt", key));
      const auto line = [&](const std::string& in) {
        return cli.good(fmt::format("inspect {} --get '{}'", in, key));
      };
      CHECK(line(file) == line("dtypes.pt"));
    }
  }
}

TEST_CASE("a file is known by what is in it, whatever its name ends in", "[cli][pitfalls]") {
  // An ending that nobody listed lists nothing, with status 0.
  const Cli cli;
  for (const std::string name :
       {"weights", "weights.xyz", "weights.safetensors", "weights.zip", "weights.onnx"}) {
    CAPTURE(name);
    cli.write(name, zip_of("model/module.fc.weight float32 3x2"));
    cli.good("strip -q " + name + " -f -o out.bin");
    CHECK(cli.keys("out.bin") == Keys{"fc.weight"});
  }
}

TEST_CASE("releases are compared as numbers", "[cli][pitfalls]") {
  // 2.9 counts as newer than 2.15, and 1.10 as older than 1.6.
  const Cli cli;
  cli.write("in.pt", zip_of("fc.weight float16 5x64"));
  const auto drawn = [&](const std::string& release) {
    cli.good("head -q in.pt --num-classes 9 --torch " + release + " -f -o out.pt");
    return values(cli, "out.pt", "fc.weight");
  };
  CHECK(drawn("2.9.1") == drawn("2.11"));  // the rule for float16 changed in 2.12
  CHECK(drawn("2.9.1") != drawn("2.15"));
  CHECK(drawn("1.13") == drawn("2.9"));
}

TEST_CASE("files that share a stem are edited in place beside each other", "[cli][pitfalls]") {
  // Both are saved under one temporary name or one backup.
  const Cli cli;
  const Keys names = {"model.ckpt", "model.pt", "model.pt.bak", "model.pth"};
  for (std::size_t i = 0; i < names.size(); ++i)
    cli.write(names[i], zip_of(fmt::format("module.w{} float32 2", i)));
  cli.good("strip -q -i model.ckpt model.pt model.pt.bak model.pth");
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(cli.keys(names[i]) == Keys{fmt::format("w{}", i)});
  CHECK(cli.dir().names() == names);
}

TEST_CASE("a merge that fails leaves its inputs, and no output", "[cli][pitfalls]") {
  // Part of the output stays under its final name, or the source goes although the result is not whole.
  const Cli cli;
  cli.write("base.pt", zip_of("a float32 2; b float32 3; c float32 4"));
  cli.write("other.pt", zip_of("a float32 2; b float32 3; c float32 5"));
  const auto base = cli.read("base.pt");
  const auto other = cli.read("other.pt");
  cli.bad("merge base.pt other.pt -o out.pt");
  cli.bad("merge base.pt other.pt -i");
  CHECK(cli.dir().names() == Keys{"base.pt", "other.pt"});
  CHECK(cli.read("base.pt") == base);
  CHECK(cli.read("other.pt") == other);
}

TEST_CASE("the average that was asked for is the one that is taken", "[cli][pitfalls]") {
  // The option for the average is overwritten later, and the raw weights come out.
  const Cli cli;
  cli.write("base.pt", zip_of("fc.weight float32 2x2 storage=b"));
  cli.write("run.pt",
            zip_of("model/fc.weight float32 2x2 storage=m; ema/fc.weight float32 2x2 storage=e; epoch = 3"));
  REQUIRE(values(cli, "run.pt", "ema[\"fc.weight\"]") != values(cli, "run.pt", "model[\"fc.weight\"]"));
  cli.good("merge -q base.pt run.pt --other-root ema -o out.pt");
  CHECK(values(cli, "out.pt", "[\"fc.weight\"]") == values(cli, "run.pt", "ema[\"fc.weight\"]"));
  cli.good("merge -q base.pt run.pt --other-root model -f -o out.pt");
  CHECK(values(cli, "out.pt", "[\"fc.weight\"]") == values(cli, "run.pt", "model[\"fc.weight\"]"));
  cli.good("apply -q -e 'merge run.pt --other-root ema' base.pt -f -o out.pt");
  CHECK(values(cli, "out.pt", "[\"fc.weight\"]") == values(cli, "run.pt", "ema[\"fc.weight\"]"));
  cli.good("head -q run.pt --root ema --num-classes 5 -f -o out.pt");
  CHECK(values(cli, "out.pt", "model[\"fc.weight\"]") == values(cli, "run.pt", "model[\"fc.weight\"]"));
}

TEST_CASE("a change of one bit is a change", "[cli][pitfalls]") {
  // Values are not compared at all, or within a tolerance that small steps of a fine-tune stay below.
  const Cli cli;
  auto bytes = build_safetensors("fc.weight float32 4; fc.bias float32 4");
  cli.write("base.safetensors", as_text(bytes));
  bytes.back() ^= std::byte{0x80};  // the sign of the last number
  cli.write("sign.safetensors", as_text(bytes));
  bytes.back() ^= std::byte{0x80};
  bytes[bytes.size() - 4] ^= std::byte{1};  // its last place
  cli.write("place.safetensors", as_text(bytes));
  for (const std::string file : {"sign.safetensors", "place.safetensors"})
    CHECK(cli.good("freeze " + file + " --base base.safetensors").find("1 of 2 tensors equal bit for bit") !=
          std::string::npos);
}

}  // namespace
}  // namespace ckpt::test
