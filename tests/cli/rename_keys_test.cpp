// SPDX-License-Identifier: BSD-3-Clause
#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

class SmallCli : public Cli {
 public:
  SmallCli() {
    write("in.pt", zip_of("layer1.0.conv.w float32 1; layer1.1.conv.w float32 1; layer2.0.conv.w float32 1; "
                          "fc.w float32 1"));
  }

  Keys renamed(const std::string& options) const {
    good("rename -q in.pt -f -o out.pt " + options);
    return keys("out.pt");
  }
};

TEST_CASE("rules replace keys, modules, globs and matches of expressions", "[cli][rename]") {
  const SmallCli cli;

  struct Case {
    const char* options;
    Keys keys;
  };

  const Case cases[] = {
      {"--map fc.w=head.w", {"layer1.0.conv.w", "layer1.1.conv.w", "layer2.0.conv.w", "head.w"}},
      {"--map fc=head", {"layer1.0.conv.w", "layer1.1.conv.w", "layer2.0.conv.w", "head.w"}},
      {"--map layer1=stage.1", {"stage.1.0.conv.w", "stage.1.1.conv.w", "layer2.0.conv.w", "fc.w"}},
      {"--map layer2=", {"layer1.0.conv.w", "layer1.1.conv.w", "0.conv.w", "fc.w"}},
      {"--map '=fc.w=a'", {"layer1.0.conv.w", "layer1.1.conv.w", "layer2.0.conv.w", "a"}},
      {"--map 'layer*.*.conv.w=s*.b*.c.w'", {"s1.b0.c.w", "s1.b1.c.w", "s2.b0.c.w", "fc.w"}},
      {"--map 'layer?.**=l\\1.\\2'", {"l1.0.conv.w", "l1.1.conv.w", "l2.0.conv.w", "fc.w"}},
      {"--map 're:^layer(\\d)=stage\\1'", {"stage1.0.conv.w", "stage1.1.conv.w", "stage2.0.conv.w", "fc.w"}},
      {"--map 're:[0-9]=<\\0>'",
       {"layer<1>.<0>.conv.w", "layer<1>.<1>.conv.w", "layer<2>.<0>.conv.w", "fc.w"}},
      {"--add-prefix m.", {"m.layer1.0.conv.w", "m.layer1.1.conv.w", "m.layer2.0.conv.w", "m.fc.w"}},
      {"--strip-prefix layer", {"1.0.conv.w", "1.1.conv.w", "2.0.conv.w", "fc.w"}},
      {"--add-prefix m. --strip-prefix m.l",
       {"ayer1.0.conv.w", "ayer1.1.conv.w", "ayer2.0.conv.w", "m.fc.w"}},
      {"--map fc=a --map a=b", {"layer1.0.conv.w", "layer1.1.conv.w", "layer2.0.conv.w", "b.w"}},
      {"--map layer1=x --map layer2=layer1 --map x=layer2",
       {"layer2.0.conv.w", "layer2.1.conv.w", "layer1.0.conv.w", "fc.w"}},
      {"--map nope=x --allow-unmatched", {"layer1.0.conv.w", "layer1.1.conv.w", "layer2.0.conv.w", "fc.w"}},
  };
  for (const auto& [options, keys] : cases) {
    CAPTURE(options);
    CHECK(cli.renamed(options) == keys);
  }
}

TEST_CASE("a map is split at its last equals sign", "[cli][rename]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a=b float32 1; c float32 1"));
  cli.good("rename -q in.pt --map a=b=x -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"x", "c"});
}

TEST_CASE("rules from a file, with comments", "[cli][rename]") {
  const SmallCli cli;
  cli.write("rules", "# old names\nfc=head\n\nlayer1=stage1\r\n");
  CHECK(cli.renamed("--rules rules --map head=classifier") ==
        Keys{"stage1.0.conv.w", "stage1.1.conv.w", "layer2.0.conv.w", "classifier.w"});
  cli.write("bad", "fc\n");
  CHECK(cli.bad("rename in.pt --rules bad -n") == "ckpt: bad: 'fc' is no OLD=NEW\n");
  const auto done = cli.run_with_input("rename -q in.pt --rules - -o piped.pt", "fc=head\n");
  CHECK(done.status == 0);
  CHECK(cli.keys("piped.pt").back() == "head.w");
}

TEST_CASE("keys keep their places, and tensors their bytes", "[cli][rename]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.good("rename -q in.pt --map fc=a --map conv=z -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"z.weight", "z.bias", "bn.weight", "bn.bias", "bn.running_mean",
                                   "bn.running_var", "bn.num_batches_tracked", "a.weight", "a.bias"});
  CHECK(cli.good("inspect out.pt --get a.weight --values 99") ==
        cli.good("inspect in.pt --get fc.weight --values 99"));
}

TEST_CASE("_metadata follows a module that moves as a whole", "[cli][rename]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  cli.good("rename -q in.pt --map fc=head -o out.pt");
  CHECK(cli.good("inspect out.pt --get @_metadata") ==
        R"({"":{"version":1},"conv":{"version":1},"bn":{"version":2},"head":{"version":1}})"
        "\n");
}

TEST_CASE("a pattern or prefix without a match is an error, unless allowed", "[cli][rename]") {
  const SmallCli cli;
  CHECK(cli.bad("rename in.pt -n --strip-prefix nope.") ==
        "ckpt: in.pt: no key starts with 'nope.'\n  hint: use --allow-unmatched to accept that\n");
  CHECK(cli.bad("rename in.pt -n --map 'layer1.*=x'") ==
        "ckpt: in.pt: 'layer1.*' matches no key; 'layer1.**' would match 2\n"
        "  hint: use --allow-unmatched to accept a pattern without a match\n");
  CHECK(cli.renamed("--strip-prefix nope. --allow-unmatched") == cli.keys("in.pt"));
}

TEST_CASE("two keys never get one name", "[cli][rename]") {
  const SmallCli cli;
  CHECK(cli.bad("rename in.pt -o out.pt --map layer1.1=layer1.0") ==
        "ckpt: in.pt: keys 'layer1.0.conv.w' and 'layer1.1.conv.w' would both be called 'layer1.0.conv.w'\n");
  CHECK(cli.bad("rename in.pt -n --map '**=x'").find("would both be called 'x'") != std::string::npos);
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("with --root '' a renamed key may not hit a value that is carried", "[cli][rename]") {
  const Cli cli;
  cli.write("in.pt", zip_of("w float32 1; v float32 1; epoch = 7"));
  CHECK(cli.bad("rename in.pt --map w=epoch -o out.pt") ==
        "ckpt: in.pt: key 'w' would be called 'epoch', which is another entry's key\n");
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("every state dict is renamed; --root picks", "[cli][rename]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a/w float32 1; b/w float32 1"));
  cli.good("rename -q in.pt --map w=x -o both.pt");
  CHECK(cli.keys("both.pt") == Keys{"x", "x"});
  cli.good("rename -q in.pt --root b --map w=x -o one.pt");
  CHECK(cli.keys("one.pt") == Keys{"w", "x"});
}

TEST_CASE("names that an optimizer remembers follow their keys", "[cli][rename]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto report = cli.good("rename in.pt --strip-prefix module. --map fc=head -o out.pt");
  CHECK(report.find("  optimizer 'optimizer': 6 names renamed\n") != std::string::npos);
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0].param_names'") ==
        R"(["conv.weight","conv.bias","bn.weight","bn.bias","head.weight","head.bias"])"
        "\n");
  CHECK(cli.good("inspect out.pt --get optimizer.state") == cli.good("inspect in.pt --get optimizer.state"));
  cli.good("rename -q in.pt --strip-prefix module. --optimizer keep -o kept.pt");
  CHECK(cli.good("inspect kept.pt --get optimizer") == cli.good("inspect in.pt --get optimizer"));
  cli.good("rename -q in.pt --strip-prefix module. --optimizer drop -o dropped.pt");
  CHECK(cli.bad("inspect dropped.pt --get optimizer").find("nothing is called") != std::string::npos);
}

TEST_CASE("optimizer state without names needs no choice where no key goes", "[cli][rename]") {
  const Cli cli;
  cli.take("torch-1.13-training.pt", "in.pt");
  const auto report = cli.good("rename in.pt --strip-prefix module. -o out.pt");
  CHECK(report.find("optimizer") == std::string::npos);
  CHECK(cli.good("inspect out.pt --get optimizer") == cli.good("inspect in.pt --get optimizer"));
}

}  // namespace
}  // namespace ckpt::test
