// SPDX-License-Identifier: BSD-3-Clause
#include "support/cli_files.h"

namespace ckpt::test {
namespace {

using Keys = std::vector<std::string>;

/// The keys after stripping a file that has `keys`, all float32.
Keys stripped(const Keys& keys, const std::string& options = "") {
  const Cli cli;
  std::string description;
  for (const auto& key : keys) description += key + " float32 2;";
  cli.write("in.pt", zip_of(description));
  cli.good("strip -q in.pt -o out.pt " + options);
  return cli.keys("out.pt");
}

const Keys kFlat = {"conv.weight",
                    "conv.bias",
                    "bn.weight",
                    "bn.bias",
                    "bn.running_mean",
                    "bn.running_var",
                    "bn.num_batches_tracked",
                    "fc.weight",
                    "fc.bias"};

TEST_CASE("DataParallel's prefix goes, whatever the container", "[cli][strip]") {
  const Cli cli;
  for (const auto* file :
       {"torch-1.13-dataparallel.pt", "torch-1.13-dataparallel-legacy.pt", "torch-2.6-dataparallel.pt",
        "torch-2.15-dataparallel.pt", "torch-2.15-dataparallel-legacy.pt",
        "torch-2.15-dataparallel.safetensors", "torch-2.15-compiled.pt", "torch-1.13-plain-dict.pt"}) {
    CAPTURE(file);
    cli.take(file);
    cli.good("strip -q " + std::string(file) + " -f -o out");
    auto keys = cli.keys("out");
    auto expected = kFlat;
    if (std::string_view(file).ends_with(".safetensors")) {
      std::sort(keys.begin(), keys.end());
      std::sort(expected.begin(), expected.end());
    }
    CHECK(keys == expected);
  }
}

TEST_CASE("the report says what went, from where and how many bytes moved", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  const auto lines = split_lines(cli.good("strip in.pt -o out.pt"));
  REQUIRE(lines.size() == 5);
  CHECK(lines[0] == "in.pt -> out.pt");
  CHECK(lines[1] == "  stripped: module.");
  CHECK(lines[2] == "  state dict: 9 of 9 keys kept, 156 B");
  CHECK(lines[3] ==
        "    9 keys renamed: 'module.conv.weight' -> 'conv.weight', 'module.conv.bias' -> 'conv.bias' and 7 "
        "more");
}

TEST_CASE("wrappers go nested and in mid-key, to a fixed point", "[cli][strip]") {
  struct Case {
    Keys before;
    Keys after;
  };

  const Case cases[] = {
      {{"module.a", "module.b"}, {"a", "b"}},
      {{"module.module.a", "module.module.b"}, {"a", "b"}},
      {{"_orig_mod.module.a.w", "_orig_mod.module.b.w"}, {"a.w", "b.w"}},
      {{"module._orig_mod.a.w"}, {"a.w"}},
      {{"_fsdp_wrapped_module.l._fsdp_wrapped_module._checkpoint_wrapped_module.w"}, {"l.w"}},
      {{"_forward_module.module.w"}, {"w"}},
      {{"features.module.0.w", "features.module.1.w", "head.w"}, {"features.0.w", "features.1.w", "head.w"}},
      {{"features.module.0.w", "features.scale"}, {"features.module.0.w", "features.scale"}},
      {{"module.a", "b"}, {"module.a", "b"}},
      {{"n_averaged", "module.a", "module.b"}, {"n_averaged", "a", "b"}},
      {{"module.n_averaged", "module.module.a"}, {"n_averaged", "a"}},
      {{"module"}, {"module"}},
      {{"modules.a", "modules.b"}, {"modules.a", "modules.b"}},
      {{"b.module", "a.module.w"}, {"b.module", "a.w"}},
  };
  for (const auto& [before, after] : cases) {
    CAPTURE(before);
    CHECK(stripped(before) == after);
  }
}

TEST_CASE("--wrapper names more of them, with or without its dot", "[cli][strip]") {
  CHECK(stripped({"ddp.a", "ddp.b"}) == Keys{"ddp.a", "ddp.b"});
  CHECK(stripped({"ddp.a", "ddp.b"}, "--wrapper ddp") == Keys{"a", "b"});
  CHECK(stripped({"ddp.x.module.a"}, "--wrapper ddp. --wrapper x") == Keys{"a"});
}

TEST_CASE("a wrapper's own keys and a real sub-module called module stay", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-averaged.pt");
  cli.good("strip -q torch-2.15-averaged.pt -o averaged.pt");
  CHECK(cli.keys("averaged.pt").front() == "n_averaged");
  CHECK(cli.keys("averaged.pt")[1] == "conv.weight");
  cli.take("torch-2.15-midkey.pt");
  cli.good("strip -q torch-2.15-midkey.pt -o midkey.pt");
  CHECK(cli.keys("midkey.pt") == Keys{"features.0.weight", "features.0.bias", "features.1.weight",
                                      "features.1.bias", "features.1.running_mean", "features.1.running_var",
                                      "features.1.num_batches_tracked", "adapter.scale",
                                      "adapter.module.weight", "adapter.module.bias"});
}

TEST_CASE("every state dict of the file is stripped by itself; what else is there is carried",
          "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto report = cli.good("strip in.pt -o out.pt");
  CHECK(report.find("state dict 'model': 9 of 9 keys kept") != std::string::npos);
  CHECK(report.find("state dict 'ema': 9 of 9 keys kept") != std::string::npos);
  auto keys = kFlat;
  keys.insert(keys.end(), kFlat.begin(), kFlat.end());
  CHECK(cli.keys("out.pt") == keys);
  CHECK(cli.good("inspect out.pt --get 'optimizer.param_groups[0].param_names'") ==
        R"(["conv.weight","conv.bias","bn.weight","bn.bias","fc.weight","fc.bias"])"
        "\n");
  for (const auto* path : {"epoch", "args", "optimizer.state", "scheduler", "rng --values 64"}) {
    CAPTURE(path);
    CHECK(cli.good("inspect in.pt --get " + std::string(path)) ==
          cli.good("inspect out.pt --get " + std::string(path)));
  }
}

TEST_CASE("--root names the state dicts to strip", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-training.pt", "in.pt");
  const auto report = cli.good("strip in.pt --root ema -o out.pt");
  CHECK(report.find("'model'") == std::string::npos);
  CHECK(cli.good("inspect out.pt --root model --keys").starts_with("module.conv.weight\n"));
  CHECK(cli.good("inspect out.pt --root ema --keys").starts_with("conv.weight\n"));
  cli.good("strip -q in.pt --root ema --root model -o both.pt");
  CHECK(cli.keys("both.pt").front() == "conv.weight");
}

TEST_CASE("a mapping that is no state dict can be named by --root", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-root-list.pt", "in.pt");
  CHECK(cli.bad("strip in.pt -n") ==
        "ckpt: in.pt: no state dict in the file; mappings that hold tensors: '[0]' (9 tensors)\n"
        "  hint: name a mapping with --root PATH\n");
  cli.good("rename -q in.pt --root '[0]' --add-prefix x. -o out.pt");
  CHECK(cli.good("inspect out.pt --get '[0][\"x.fc.bias\"]'") == "[0][\"x.fc.bias\"] float32 [3] 12 B\n");
}

TEST_CASE("--root that names nothing lists what holds tensors", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  CHECK(cli.bad("strip in.pt -n --root nope") ==
        "ckpt: in.pt: no mapping with string keys at 'nope'; mappings that hold tensors: the root (9 "
        "tensors)\n");
}

TEST_CASE("one state dict under two names is edited once and stays one", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-aliased.pt", "in.pt");
  cli.good("strip -q in.pt -o out.pt");
  CHECK(cli.keys("out.pt") == Keys{"weight", "bias"});
  CHECK(cli.good("inspect out.pt --get best.weight") == "model.weight float32 [2, 2] 16 B\n");
}

TEST_CASE("extra states are renamed with their keys", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-extra-state.pt", "in.pt");
  cli.good("strip -q in.pt -o out.pt");
  CHECK(cli.good("inspect out.pt --get 'model[\"0._extra_state\"].recipe'") == "delayed\n");
}

TEST_CASE("_metadata follows as in torch 2.3: the parent's entry keeps its place and takes the wrapped value",
          "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-dataparallel.pt", "in.pt");
  cli.take("torch-2.15-flat.pt", "flat.pt");
  cli.good("strip -q in.pt -o out.pt");
  CHECK(cli.good("inspect out.pt --get @_metadata") == cli.good("inspect flat.pt --get @_metadata"));
}

TEST_CASE("keys that would collide are refused with both names", "[cli][strip]") {
  const Cli cli;
  cli.write("in.pt", zip_of("n_averaged int64 scalar; module.n_averaged int64 scalar; module.w float32 2"));
  CHECK(cli.bad("strip in.pt -o out.pt") ==
        "ckpt: in.pt: keys 'n_averaged' and 'module.n_averaged' would both be called 'n_averaged'\n");
  CHECK(cli.bad("strip in.pt -n").find("would both be called") != std::string::npos);
  CHECK_FALSE(cli.exists("out.pt"));
}

TEST_CASE("nothing to strip is success with a note", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-flat.pt", "in.pt");
  CHECK(cli.good("strip in.pt -o out.pt").find("  note: no wrapper's name to strip\n") != std::string::npos);
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
}

TEST_CASE("a whole module is taken out of its wrapper", "[cli][strip]") {
  const Cli cli;
  for (const auto* file : {"torch-2.15-module-dataparallel.pt", "torch-1.13-module-dataparallel-legacy.pt"}) {
    CAPTURE(file);
    cli.take(file, "whole.pt");
    const auto report = cli.good("strip whole.pt --verify -f -o out.pt");
    CHECK(report.find("  stripped: module.\n") != std::string::npos);
    CHECK(report.find("'module.mean' -> 'mean'") != std::string::npos);
    cli.take("torch-2.15-module.pt", "bare.pt");
    CHECK(cli.keys("out.pt") == cli.keys("bare.pt"));
    const auto globals = cli.good("inspect --globals out.pt");
    CHECK(globals.find("data_parallel") == std::string::npos);
    CHECK(globals.find("vanished_project") != std::string::npos);
    CHECK(cli.good("strip out.pt -f -o again.pt").find("note: no wrapper's name to strip") !=
          std::string::npos);
    CHECK(cli.read("again.pt") == cli.read("out.pt"));
    std::filesystem::remove("whole.pt");
    std::filesystem::remove("bare.pt");
  }
  cli.take("torch-2.15-module-nested.pt", "nested.pt");
  CHECK(cli.good("strip nested.pt --root net --verify -f -o out.pt").find("stripped: module.\n") !=
        std::string::npos);
  CHECK(cli.good("inspect --get epoch out.pt") == cli.good("inspect --get epoch nested.pt"));
}

TEST_CASE("the keys of a whole module can't be filtered and renamed", "[cli][strip]") {
  const Cli cli;
  cli.take("torch-2.15-module-nested.pt", "nested.pt");
  CHECK(cli.bad("filter nested.pt --drop module.head -o out.pt") ==
        "ckpt: nested.pt: a whole module stands at 'net': its keys are attributes of objects and can't be "
        "edited in place\n  hint: get its state dict: ckpt convert --state-dict FILE -o params.pt\n");
  CHECK(cli.bad("rename nested.pt --add-prefix x. -o out.pt").find("a whole module stands at 'net'") !=
        std::string::npos);
  CHECK_FALSE(cli.exists("out.pt"));
  cli.good("filter -q nested.pt --drop-entry epoch -o out.pt");
  CHECK(cli.keys("out.pt") == cli.keys("nested.pt"));
}

}  // namespace
}  // namespace ckpt::test
