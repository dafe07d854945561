// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

/// Keys of the flat model: conv and fc have weight and bias, bn also three buffers.
class FlatCli : public Cli {
 public:
  FlatCli() { take("torch-2.15-flat.pt", "in.pt"); }

  Keys kept(const std::string& options) const {
    good("filter -q in.pt -f -o kept.pt " + options);
    return keys("kept.pt");
  }
};

const Keys kConv = {"conv.weight", "conv.bias"};
const Keys kFc = {"fc.weight", "fc.bias"};

Keys operator+(Keys a, const Keys& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_CASE("patterns: a key, a module, globs, exact keys, regular expressions, negation", "[cli][filter]") {
  const FlatCli cli;

  struct Case {
    const char* options;
    Keys kept;
  };

  const Case cases[] = {
      {"--keep fc.weight", {"fc.weight"}},
      {"--keep fc", kFc},
      {"--keep 'fc.*'", kFc},
      {"--keep 'fc.**'", kFc},
      {"--keep '*.bias'", {"conv.bias", "bn.bias", "fc.bias"}},
      {"--keep '**.bias'", {"conv.bias", "bn.bias", "fc.bias"}},
      {"--keep '**bias'", {"conv.bias", "bn.bias", "fc.bias"}},
      {"--keep '?c.bias'", {"fc.bias"}},
      {"--keep =fc.bias", {"fc.bias"}},
      {"--keep 're:^(conv|fc)\\.'", kConv + kFc},
      {"--keep re:running", {"bn.running_mean", "bn.running_var"}},
      {"--keep '!bn'", kConv + kFc},
      {"--keep '!re:^(conv|bn)'", kFc},
      {"--drop bn --drop fc", kConv},
      {"--drop '!conv'", kConv},
  };
  for (const auto& [options, kept] : cases) {
    CAPTURE(options);
    CHECK(cli.kept(options) == kept);
  }
}

TEST_CASE("a star stops at a dot, two do not; a module is no prefix of text", "[cli][filter]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a.b.w float32 1; a.w float32 1; ab.w float32 1; a float32 1"));
  cli.good("filter -q in.pt --keep 'a.*' -o one.pt");
  CHECK(cli.keys("one.pt") == Keys{"a.w"});
  cli.good("filter -q in.pt --keep 'a.**' -o two.pt");
  CHECK(cli.keys("two.pt") == Keys{"a.b.w", "a.w"});
  cli.good("filter -q in.pt --keep a -o three.pt");
  CHECK(cli.keys("three.pt") == Keys{"a.b.w", "a.w", "a"});
  cli.good("filter -q in.pt --keep =a -o four.pt");
  CHECK(cli.keys("four.pt") == Keys{"a"});
}

TEST_CASE("rules act in order, the last match wins, and the first decides how keys start out",
          "[cli][filter]") {
  const FlatCli cli;
  CHECK(cli.kept("--keep '**.weight' --drop bn") == Keys{"conv.weight", "fc.weight"});
  CHECK(cli.kept("--drop bn --keep '**.weight'") == Keys{"conv.weight", "conv.bias", "bn.weight"} + kFc);
  CHECK(cli.kept("--drop '**' --keep fc --drop fc.bias") == Keys{"fc.weight"});
  CHECK(cli.kept("--keep fc --drop fc.bias --keep fc.bias") == kFc);
}

TEST_CASE("a list without an end is given up", "[cli][filter]") {
  const FlatCli cli;
  CHECK(cli.bad("filter in.pt --keep @/dev/zero -n") ==
        "ckpt: /dev/zero: more than 268435456 bytes, the most that are read\n");
}

TEST_CASE("@FILE has one pattern a line, @=FILE one exact key, @- reads standard input", "[cli][filter]") {
  const FlatCli cli;
  cli.write("patterns", "conv.*\r\n\nfc\n");
  CHECK(cli.kept("--keep @patterns") == kConv + kFc);
  cli.write("keys", "fc.bias\nfc.weight\n");
  CHECK(cli.kept("--keep @=keys") == kFc);
  cli.write("modules", "fc\n");
  CHECK(cli.bad("filter in.pt --keep @=modules -n").starts_with("ckpt: in.pt: '=fc' matches no key"));
  cli.write("zero", std::string("conv.bias\0fc.bias\0", 18));
  CHECK(cli.kept("--keep @=zero -0") == Keys{"conv.bias", "fc.bias"});
  CHECK(cli.kept("--keep @zero --null") == Keys{"conv.bias", "fc.bias"});
  const auto done = cli.run_with_input("filter -q in.pt --drop @- -o out.pt", "bn\nconv\n");
  CHECK(done.status == 0);
  CHECK(cli.keys("out.pt") == kFc);
}

TEST_CASE("a first list that is empty is refused, as the first decides how keys start out", "[cli][filter]") {
  const FlatCli cli;
  cli.write("empty", "\n");
  CHECK(cli.bad("filter in.pt --keep @empty --drop fc -n") == "ckpt: --keep @empty: the list is empty\n");
  CHECK(cli.bad("filter in.pt --drop @empty -n") == "ckpt: --drop @empty: the list is empty\n");
  CHECK(cli.bad("freeze-report in.pt --train @empty --freeze fc") ==
        "ckpt: --train @empty: the list is empty\n");
  CHECK(cli.kept("--keep '**' --drop @=empty") == cli.keys("in.pt"));
}

TEST_CASE("an error in a list names the list", "[cli][filter]") {
  const FlatCli cli;
  cli.write("patterns", "fc\nre:(\n");
  CHECK(cli.bad("filter in.pt --keep @patterns -n") ==
        "ckpt: patterns: '(' is no regular expression: missing ): (\n");
}

TEST_CASE("inspect --keys and filter @= are one way and back, whatever the keys contain but NUL",
          "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-keys.pt", "all.pt");
  cli.good("filter -q all.pt --drop 're:\\x00' -o in.pt");
  cli.write("keys", cli.good("inspect --keys -0 in.pt"));
  cli.good("filter -q in.pt --keep @=keys -0 -o out.pt");
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
}

TEST_CASE("a pattern that matches nothing is an error that suggests what would", "[cli][filter]") {
  const Cli cli;
  cli.write("in.pt", zip_of("layer4.0.weight float32 1; layer4.0.bias float32 1; layer4.1.bias float32 1; "
                            "fc.weight float32 1"));
  const std::string accept = "  hint: use --allow-unmatched to accept a pattern without a match\n";
  CHECK(cli.bad("filter in.pt -n --drop 'layer4.*'") ==
        "ckpt: in.pt: 'layer4.*' matches no key; 'layer4.**' would match 3\n" + accept);
  CHECK(cli.bad("filter in.pt -n --drop fc.wieght") ==
        "ckpt: in.pt: 'fc.wieght' matches no key\n"
        "  hint: did you mean 'fc.weight'? Use --allow-unmatched to accept a pattern without a match\n");
  CHECK(cli.bad("filter in.pt -n --drop layr4") ==
        "ckpt: in.pt: 'layr4' matches no key\n"
        "  hint: did you mean 'layer4'? Use --allow-unmatched to accept a pattern without a match\n");
  CHECK(cli.bad("filter in.pt -n --keep ayer4") ==
        "ckpt: in.pt: 'ayer4' matches no key; '**ayer4**' would match 3\n" + accept);
  CHECK(cli.bad("filter in.pt -n --drop re:nothing") ==
        "ckpt: in.pt: 're:nothing' matches no key\n" + accept);
}

TEST_CASE("--allow-unmatched accepts patterns and entries without a match", "[cli][filter]") {
  const FlatCli cli;
  CHECK(cli.kept("--keep fc --drop nope --allow-unmatched") == kFc);
  CHECK(cli.kept("--keep fc --drop-entry nope --allow-unmatched") == kFc);
}

TEST_CASE("a pattern may match in any one of the edited state dicts", "[cli][filter]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 1; a/x float32 1; b/w float32 1"));
  cli.good("filter -q in.pt --drop x -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"w", "w"});
  CHECK(cli.bad("filter in.pt --root b --drop x -n").find("'x' matches no key") != std::string::npos);
}

TEST_CASE("a state dict that would be left empty is refused, even with --allow-unmatched", "[cli][filter]") {
  const FlatCli cli;
  const std::string refusal = "would be left\n  hint: to drop the whole entry, use --drop-entry PATH\n";
  CHECK(cli.bad("filter in.pt --drop '**' -o out.pt") ==
        "ckpt: in.pt: no key of the state dict at the root " + refusal);
  CHECK(cli.bad("filter in.pt --keep nope --allow-unmatched -n") ==
        "ckpt: in.pt: no key of the state dict at the root " + refusal);
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("by dtype and by size", "[cli][filter]") {
  const FlatCli cli;
  CHECK(cli.kept("--only-dtype int64") == Keys{"bn.num_batches_tracked"});
  CHECK(cli.kept("--only-dtype int64,float32").size() == 9);
  CHECK(cli.kept("--only-dtype int64 --only-dtype float32").size() == 9);
  CHECK(cli.kept("--min-bytes 12") == Keys{"conv.weight"} + kFc);
  CHECK(cli.kept("--max-bytes 12 --drop bn") == Keys{"conv.bias", "fc.bias"});
  CHECK(cli.kept("--min-bytes 12 --max-bytes 24") == kFc);
}

TEST_CASE("--root '' is the file's root, also where it mixes tensors with other values", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-mixed.pt", "mixed.pt");
  cli.good("filter -q mixed.pt --root '' --drop bias -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"weight"});
  CHECK(cli.good("inspect out.pt --get epoch") == "3\n");
  CHECK(cli.good("inspect out.pt --get classes") == "[\"cat\",\"dog\"]\n");
  cli.write("training.pt", zip_of("model/w float32 1; extra float32 1; other float32 1; epoch = 7"));
  cli.good("filter -q training.pt --root '' --drop extra -o root.pt");
  CHECK(cli.good("inspect root.pt --get epoch") == "7\n");
  CHECK(cli.good("inspect root.pt --get other") == "other float32 [1] 4 B\n");
  CHECK(cli.bad("inspect root.pt --get extra").find("no 'extra' in the file") != std::string::npos);
}

TEST_CASE("--drop-entry takes away what stands at a path", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto report =
      cli.good("filter in.pt --drop-entry optimizer --drop-entry ema --drop-entry epoch -o out.pt");
  CHECK(report.find("  dropped: 'optimizer', 'ema', 'epoch'\n") != std::string::npos);
  CHECK(cli.keys("out.pt").size() == 9);
  for (const auto* gone : {"optimizer", "ema", "epoch"}) {
    CHECK(cli.bad("inspect out.pt --get " + std::string(gone)).find("nothing is called") !=
          std::string::npos);
  }
  CHECK(cli.good("inspect out.pt --get scheduler") == cli.good("inspect in.pt --get scheduler"));
}

TEST_CASE("--verify knows of keys that an edit of something else takes or changes", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.take("torch-2.15-module.pt", "module.pt");
  cli.good("filter -q in.pt --drop-entry '[\"fc.weight\"]' --verify -o out.pt");
  CHECK(cli.good("inspect --keys out.pt").find("fc.weight") == std::string::npos);
  cli.good("filter -q module.pt --drop-entry @_modules.head --verify -f -o out.pt");
  CHECK(cli.good("inspect --keys out.pt").find("head") == std::string::npos);
  const std::string part = "module.pt --root @_modules.head@_parameters --verify -f -o out.pt";
  cli.good("filter -q --drop weight " + part);
  CHECK(cli.good("inspect --keys out.pt").find("head.weight") == std::string::npos);
  cli.good("rename -q --map weight=w " + part);
  CHECK(cli.good("inspect --keys out.pt").find("head.w\n") != std::string::npos);
}

TEST_CASE("--drop-entry reaches into mappings and lists, and needs no state dict", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  cli.good("filter -q in.pt --drop-entry 'optimizer.param_groups[0].lr' -o out.pt");
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0]'").find("\"lr\":0.001") ==
        std::string::npos);
  cli.take("torch-2.15-root-list.pt", "list.pt");
  cli.good("filter -q list.pt --drop-entry '[1]' -o short.pt");
  CHECK(cli.bad("inspect short.pt --get '[1]'").find("1 element there") != std::string::npos);
}

TEST_CASE("a path to arguments needs the index of one", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-holders.pt", "in.pt");
  CHECK(cli.good("inspect in.pt --get 'device<args>[0]'") == "cuda\n");
  for (const auto* line :
       {"inspect in.pt --get 'device<args>'", "filter in.pt -n --drop-entry 'device<args>'"}) {
    CHECK(cli.bad(line) == "ckpt: in.pt: no 'device<args>' in the file: nothing is called 'args' there\n");
  }
}

TEST_CASE("a path that leads nowhere is an error that suggests the nearest key", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  CHECK(cli.bad("filter in.pt -n --drop-entry optimzer") ==
        "ckpt: in.pt: no 'optimzer' in the file: nothing is called 'optimzer' there\n  hint: did you mean "
        "'optimizer'?\n");
  CHECK(cli.bad("filter in.pt -n --drop-entry 'a b['").find("is no path") != std::string::npos);
}

TEST_CASE("an optimizer's state follows the keys that go", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto report = cli.good("filter in.pt --drop module.bn -o out.pt");
  CHECK(report.find("  optimizer 'optimizer': 4 of 6 parameters kept, told by their names\n"
                    "    2 parameters dropped: 'module.bn.weight', 'module.bn.bias'\n") != std::string::npos);
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0].params'") == "[0,1,2,3]\n");
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0].param_names'") ==
        R"(["module.conv.weight","module.conv.bias","module.fc.weight","module.fc.bias"])"
        "\n");
  CHECK(cli.good("inspect out.pt --values 8 --get 'optimizer.state{2}.exp_avg'") ==
        cli.good("inspect in.pt --values 8 --get 'optimizer.state{4}.exp_avg'"));
  CHECK(cli.bad("inspect out.pt --get 'optimizer.state{4}'").find("nothing is called") != std::string::npos);
  CHECK(cli.good("inspect out.pt --get scheduler") == cli.good("inspect in.pt --get scheduler"));
  cli.good("filter -q in.pt --drop module.bn --optimizer remap -o same.pt");
  CHECK(cli.read("same.pt") == cli.read("out.pt"));
  cli.good("filter -q in.pt --drop-entry epoch -o epoch.pt");  // no key goes
  CHECK(cli.good("inspect epoch.pt --get optimizer") == cli.good("inspect in.pt --get optimizer"));
}

TEST_CASE("an optimizer's state that can't follow needs a choice, and the command line is told again",
          "[cli][filter]") {
  const Cli cli;
  cli.take("torch-1.13-training.pt", "my file.pt");
  const std::string refused =
      "ckpt: my file.pt: parameters go or change, and the optimizer state at 'optimizer' can't follow: it is "
      "not "
      "proven which parameter is which: index 1 has the shape [2], as have 'module.conv.bias', "
      "'module.bn.weight' "
      "and 1 more\n"
      "  hint: say what becomes of it: drop takes it away; keep leaves it as it is, unfit for the model; "
      "remap=model-order takes the parameters to be in the order of the keys\n";
  CHECK(cli.bad("filter 'my file.pt' --drop module.fc -o out.pt") ==
        refused + "    ckpt filter --optimizer drop 'my file.pt' --drop module.fc -o out.pt\n" +
            "    ckpt filter --optimizer keep 'my file.pt' --drop module.fc -o out.pt\n" +
            "    ckpt filter --optimizer remap=model-order 'my file.pt' --drop module.fc -o out.pt\n");
  const std::string again =
      refused + "    ckpt filter --optimizer drop --drop 're:\\.fc\\.' -n -- 'my file.pt'\n" +
      "    ckpt filter --optimizer keep --drop 're:\\.fc\\.' -n -- 'my file.pt'\n" +
      "    ckpt filter --optimizer remap=model-order --drop 're:\\.fc\\.' -n -- 'my file.pt'\n";
  CHECK(cli.bad("filter --drop 're:\\.fc\\.' --optimizer remap -n -- 'my file.pt'") == again);
  CHECK(cli.bad("filter --optimizer=remap --drop 're:\\.fc\\.' -n -- 'my file.pt'") == again);
  CHECK_FALSE(cli.exists("out.pt"));
  const auto report =
      cli.good("filter 'my file.pt' --drop module.fc --optimizer remap=model-order -o out.pt");
  CHECK(report.find(
            "  optimizer 'optimizer': 4 of 6 parameters kept, taken to be in the order of the keys\n") !=
        std::string::npos);
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0].params'") == "[0,1,2,3]\n");
}

TEST_CASE("an optimizer's state follows a key that --drop-entry names", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "named.pt");
  cli.take("torch-1.13-training.pt", "unnamed.pt");
  const std::string entry = "--drop-entry 'model[\"module.fc.bias\"]'";
  cli.good("filter -q named.pt " + entry + " --verify -o entry.pt");
  cli.good("filter -q named.pt --root model --drop module.fc.bias -o key.pt");
  CHECK(cli.read("entry.pt") == cli.read("key.pt"));
  CHECK(cli.good("inspect entry.pt --get 'optimizer.param_groups[0].params'") == "[0,1,2,3,4]\n");
  CHECK(cli.bad("filter unnamed.pt -n " + entry).find("can't follow") != std::string::npos);
}

TEST_CASE("an optimizer's state is kept or dropped on request", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  cli.good("filter -q in.pt --drop module.fc --optimizer keep -o kept.pt");
  CHECK(cli.good("inspect kept.pt --get optimizer.param_groups") ==
        cli.good("inspect in.pt --get optimizer.param_groups"));
  const auto report = cli.good("filter in.pt --drop module.fc --optimizer drop -o dropped.pt");
  CHECK(report.find("  dropped: 'optimizer'\n") != std::string::npos);
  CHECK(cli.bad("inspect dropped.pt --get optimizer").find("nothing is called") != std::string::npos);
  CHECK(cli.good("inspect dropped.pt --get scheduler") == cli.good("inspect in.pt --get scheduler"));
  cli.good("filter -q in.pt --drop module.fc --drop-entry optimizer -o entry.pt");
  CHECK(cli.read("entry.pt") == cli.read("dropped.pt"));
}

TEST_CASE("--like keeps what the reference has with the same shape, in PyTorch's words", "[cli][filter]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 2x3; b float32 4; c int64 1; d float32 5"));
  cli.write("like.pt", zip_of("a float16 2x3; b float32 3; c float32 1; e float32 6"));
  const auto report = cli.good("filter in.pt --like like.pt -o out.pt");
  CHECK(report.find("    2 keys dropped: 'b', 'd'\n") != std::string::npos);
  CHECK(report.find("    Missing key(s) in state_dict: \"b\", \"e\". \n") == std::string::npos);
  CHECK(report.find("    Missing key(s) in state_dict: \"e\". \n") != std::string::npos);
  CHECK(report.find("    Unexpected key(s) in state_dict: \"d\". \n") != std::string::npos);
  CHECK(
      report.find(
          "    size mismatch for b: copying a param with shape torch.Size([4]) from checkpoint, the shape in "
          "current model is torch.Size([3]).\n") != std::string::npos);
  CHECK(cli.keys("out.pt") == Keys{"a", "c"});
  cli.good("filter -q in.pt --like like.pt --ignore-shape -o loose.pt");
  CHECK(cli.keys("loose.pt") == Keys{"a", "b", "c"});
}

TEST_CASE("--strict makes missing or mismatched keys status 1 and writes nothing", "[cli][filter]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 2; b float32 2"));
  cli.write("more.pt", zip_of("a float32 2; c float32 2"));
  cli.write("other.pt", zip_of("a float32 3; b float32 2"));
  cli.write("fewer.pt", zip_of("a float32 2"));
  for (const auto* line :
       {"filter in.pt --like more.pt --strict -o out.pt", "filter in.pt --like other.pt --strict -o out.pt",
        "filter in.pt --like other.pt --strict -n"}) {
    const auto done = cli.run(line);
    CAPTURE(line);
    CHECK(done.status == 1);
    CHECK(done.err == "");
    CHECK(done.out.find("  nothing written: the file does not fit the reference (--strict)\n") !=
          std::string::npos);
    CHECK_FALSE(cli.exists("out.pt"));
  }
  cli.good("filter in.pt --like fewer.pt --strict -o out.pt");  // unexpected keys are what the filter is for
  CHECK(cli.keys("out.pt") == Keys{"a"});
  cli.good("filter -q in.pt --like other.pt --strict --ignore-shape -o loose.pt");
}

TEST_CASE("a reference of another container, inside a training file, or with several state dicts",
          "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  cli.take("torch-2.15-dataparallel.safetensors", "like.safetensors");
  cli.good("filter -q in.pt --like like.safetensors --strict -o same.pt");
  CHECK(cli.read("same.pt") == cli.read("in.pt"));
  cli.take("torch-2.15-training.pt", "training.pt");
  CHECK(cli.bad("filter in.pt --like training.pt -n") ==
        "ckpt: training.pt: the reference has 2 state dicts: 'model', 'ema'\n  hint: name one with "
        "--like-root PATH\n");
  cli.good("filter -q in.pt --like training.pt --like-root ema --strict -n");
  CHECK(cli.bad("filter in.pt --like missing.pt -n") ==
        "ckpt: missing.pt: cannot open for reading: No such file or directory\n");
}

TEST_CASE("what strict loading would say about a file against itself is nothing", "[cli][filter]") {
  const FlatCli cli;
  const auto report = cli.good("filter in.pt --like in.pt --strict -o out.pt");
  CHECK(report.find("state_dict:") == std::string::npos);
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
}

/// How many entries a zip's central directory has.
std::size_t records_in(const std::string& archive) {
  std::size_t count = 0;
  for (auto at = archive.find("PK\1\2"); at != archive.npos; at = archive.find("PK\1\2", at + 1)) ++count;
  return count;
}

TEST_CASE("a tied tensor keeps its bytes until both of its keys are gone", "[cli][filter]") {
  const Cli cli;
  cli.take("torch-2.15-tied.pt", "in.pt");
  cli.good("filter -q in.pt --drop module.embed -o one.pt");
  CHECK(cli.good("inspect one.pt --get module.decoder.weight --values 99") ==
        cli.good("inspect in.pt --get module.decoder.weight --values 99"));
  cli.good("filter -q in.pt --keep module.decoder.bias -o none.pt");
  CHECK(records_in(cli.read("none.pt")) + 1 == records_in(cli.read("one.pt")));
}

}  // namespace
}  // namespace ckpt::test
