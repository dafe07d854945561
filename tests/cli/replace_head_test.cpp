// SPDX-License-Identifier: BSD-3-Clause
#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

class HeadCli : public Cli {
 public:
  HeadCli() {
    write(
        "in.pt",
        zip_of("conv.weight float32 4x3x3x3; conv.bias float32 4; fc.weight float32 5x4; fc.bias float32 5"));
  }

  std::string line(const std::string& file, const std::string& key) const {
    return good("inspect " + file + " --get " + key);
  }

  std::string values(const std::string& file, const std::string& key) const {
    return good("inspect " + file + " --get " + key + " --values 999");
  }
};

TEST_CASE("a head gets the values of torch.manual_seed and nn.Linear", "[cli][head]") {
  const HeadCli cli;
  const auto report = cli.good("replace-head in.pt --head fc --num-classes 2 --seed 0 -o out.pt");
  CHECK(report.find("head 'fc': torch.Size([5, 4]) -> torch.Size([2, 4])") != report.npos);
  // torch.manual_seed(0); nn.Linear(4, 2)
  CHECK(
      cli.values("out.pt", "fc.weight") ==
      "-0.00374341\n0.2682218\n-0.41152257\n-0.3679695\n-0.19257718\n0.13407868\n-0.00990659\n0.39644474\n");
  CHECK(cli.values("out.pt", "fc.bias") == "-0.044372022\n0.13230628\n");
  CHECK(cli.values("out.pt", "conv.weight") == cli.values("in.pt", "conv.weight"));
  CHECK(cli.keys("out.pt") == cli.keys("in.pt"));
}

TEST_CASE("a seed below zero is counted from 2^64 down, as torch.manual_seed has it", "[cli][head]") {
  const Cli cli;
  cli.write("in.pt", zip_of("fc.weight float32 3x4; fc.bias float32 3"));
  const std::string line = "head -q in.pt --num-classes 2 --seed ";
  cli.good(line + "-1 -o a.pt");
  cli.good(line + "18446744073709551615 -o b.pt");
  CHECK((cli.read("a.pt") == cli.read("b.pt")));
  for (const auto* seed : {"-1", "18446744073709551615"})
    CHECK(holds(cli.good(std::string("head --print-plan --num-classes 2 --seed ") + seed),
                "\"seed\": 18446744073709551615"));
}

TEST_CASE("the same seed gives the same bytes, another one others", "[cli][head]") {
  const HeadCli cli;
  cli.good("head -q in.pt --num-classes 2 -o a.pt");
  cli.good("head -q in.pt --num-classes 2 --seed 0 -o b.pt");
  cli.good("head -q in.pt --num-classes 2 --seed 1 -o c.pt");
  CHECK(cli.read("a.pt") == cli.read("b.pt"));
  CHECK(cli.read("a.pt") != cli.read("c.pt"));
}

TEST_CASE("old rows are kept where they are wanted", "[cli][head]") {
  const HeadCli cli;
  cli.good("head -q in.pt --head fc --num-classes 5 --keep-rows -o out.pt");
  CHECK(cli.values("out.pt", "fc.weight") == cli.values("in.pt", "fc.weight"));
  cli.good("head -q in.pt --head fc --label-offset 1 -f -o out.pt");
  CHECK(cli.line("out.pt", "fc.bias").find("[4]") != std::string::npos);
  CHECK(cli.values("in.pt", "fc.bias").ends_with(cli.values("out.pt", "fc.bias")));
  CHECK(cli.bad("head in.pt --head fc --label-offset 5 -f -o out.pt").find("no class would be left") !=
        std::string::npos);
  cli.write("map.txt", "0 9\n");
  CHECK(cli.bad("head in.pt --head fc --map map.txt -f -o out.pt").find("row 9 can't be row 0") !=
        std::string::npos);
  cli.write("map.txt", "0 x\n");
  CHECK(cli.bad("head in.pt --head fc --map map.txt -f -o out.pt").find("expected lines 'NEW OLD'") !=
        std::string::npos);
}

TEST_CASE("rows that an edit before has brought are kept like those of the file", "[cli][head]") {
  const HeadCli cli;
  cli.write("whole.pt", zip_of("fc.weight float32 5x4; fc.bias float32 5"));
  cli.write("strided.pt", zip_of("fc.weight float32 5x4 strides=1x5; fc.bias float64 5"));
  for (const std::string merge : {"merge whole.pt", "merge strided.pt --dtype base"}) {
    cli.good(merge.substr(0, 5) + " -q in.pt" + merge.substr(5) + " -f -o merged.pt");
    cli.good("head -q merged.pt --head fc --num-classes 7 --keep-rows -f -o separate.pt");
    cli.good("apply -q -e '" + merge +
             "' -e 'head --head fc --num-classes 7 --keep-rows' in.pt -f -o one.pt");
    for (const auto* key : {"fc.weight", "fc.bias"})
      CHECK(cli.values("one.pt", key) == cli.values("separate.pt", key));
  }
  cli.good("head -q in.pt --head fc --num-classes 6 --seed 1 -f -o separate.pt");
  const auto* twice =
      "-e 'head --head fc --num-classes 6 --seed 1' -e 'head --head fc --num-classes 6 --keep-rows'";
  cli.good(std::string("apply -q ") + twice + " in.pt -f -o one.pt");
  CHECK(cli.values("one.pt", "fc.weight") == cli.values("separate.pt", "fc.weight"));
}

TEST_CASE("a head that is not named is the last layer, if no other has its size", "[cli][head]") {
  const HeadCli cli;
  CHECK(cli.good("head -n in.pt --num-classes 3").find("head 'fc'") != std::string::npos);
  cli.write(
      "two.pt",
      zip_of("a.weight float32 5x4; b.weight float32 5x4; c.weight float32 9x9; embed.weight float32 7x2"));
  CHECK(cli.good("head -n two.pt --num-classes 3").find("head 'c'") != std::string::npos);
  cli.write("same.pt", zip_of("a.weight float32 5x4; b.weight float32 5x4"));
  CHECK(cli.bad("head -n same.pt --num-classes 3").find("the last layers are 'b' torch.Size([5, 4]), 'a'") !=
        std::string::npos);
}

TEST_CASE("a head takes another name and loses its bias", "[cli][head]") {
  const HeadCli cli;
  cli.good("head -q in.pt --head fc --num-classes 2 --rename fclass -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"conv.weight", "conv.bias", "fclass.weight", "fclass.bias"});
  cli.good("head -q in.pt --head fc --num-classes 2 --no-bias -f -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"conv.weight", "conv.bias", "fc.weight"});
}

TEST_CASE("every container gets its head", "[cli][head]") {
  const HeadCli cli;
  const char* description = "fc.weight float32 5x4; fc.bias float32 5; scale float32 1";
  cli.write("in.bin", std::string(as_text(build_torch_legacy(description))));
  cli.write("in.safetensors", std::string(as_text(build_safetensors(description))));
  cli.good("head -q in.pt --head fc --num-classes 2 -o out.pt");
  for (const std::string file : {"in.bin", "in.safetensors"}) {
    cli.good("head -q " + file + " --head fc --num-classes 2 --verify -f -o out");
    CHECK(cli.values("out", "fc.weight") == cli.values("out.pt", "fc.weight"));
    CHECK(cli.values("out", "scale") == cli.values(file, "scale"));
  }
}

TEST_CASE("what can't be replaced is refused by name", "[cli][head]") {
  const HeadCli cli;
  cli.write("tied.pt", zip_of("embed.weight float32 5x4; decoder.weight float32 5x4 storage=embed.weight"));
  CHECK(cli.bad("head tied.pt --head decoder --num-classes 3 -o out.pt").find("is tied: 'embed.weight'") !=
        std::string::npos);
  // a last layer of these kinds is not passed over for the one before it
  for (const auto& [keys, why] :
       {std::pair("a.weight float32 5x3; fc.weight_g float32 4x1; fc.weight_v float32 4x5", "weight-normed"),
        std::pair("a.weight float32 5x3; fc.weight_orig float32 4x5; fc.weight_mask float32 4x5", "pruned"),
        std::pair("a.weight float32 5x3; fc.parametrizations.weight.original float32 4x5", "parametrised")}) {
    cli.write("made.pt", zip_of(keys));
    CHECK(cli.bad("head made.pt --num-classes 3 -o out.pt").find("head 'fc' ") != std::string::npos);
    CHECK(cli.bad("head made.pt --head fc --num-classes 3 -o out.pt").find(why) != std::string::npos);
    CHECK(cli.good("head made.pt --head a --num-classes 3 -n").find("head 'a'") != std::string::npos);
  }
  cli.write("rows", "0 1\n1 0\n0 2\n");
  CHECK(cli.bad("head in.pt --head fc --map rows -n").find("two rows are to be row 0") != std::string::npos);
  cli.write("int.pt", zip_of("fc.weight int64 5x4"));
  CHECK(cli.bad("head int.pt --head fc --num-classes 3 -o out.pt").find("int64") != std::string::npos);
  CHECK(cli.bad("head in.pt --head fd --num-classes 3 -o out.pt").find("did you mean --head fc?") !=
        std::string::npos);
  CHECK(cli.bad("head in.pt --head fc -o out.pt").find("--num-classes") != std::string::npos);
  CHECK(cli.bad("head in.pt --head fc --num-classes 0 -o out.pt").find("must be from 1") !=
        std::string::npos);
  CHECK(cli.bad("head in.pt --head fc --num-classes 3 --init magic -o out.pt").find("magic") !=
        std::string::npos);
}

TEST_CASE("what an optimizer knows of a head goes with the old values", "[cli][head]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  for (const std::string classes : {"9", "3"}) {  // 3, as before: new values all the same
    const auto report = cli.good("head in.pt --head module.fc --num-classes " + classes + " -f -o out.pt");
    CHECK(report.find("optimizer 'optimizer'") != report.npos);
    CHECK(report.find("'module.fc.weight'") != report.npos);
  }
  cli.good("head -q in.pt --root model --head module.fc --num-classes 3 --optimizer drop -f -o out.pt");
  CHECK(cli.good("inspect out.pt").find("optimizer") == std::string::npos);
}

}  // namespace
}  // namespace ckpt::test
