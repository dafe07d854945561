// SPDX-License-Identifier: BSD-3-Clause
// --compact, --dedupe, --device-tag: how tensors lie changes, never what they are.
#include "support/cli_files.h"

namespace ckpt::test {
namespace {

std::vector<std::string> both(std::string_view description) {
  return {zip_of(description), legacy_of(description)};
}

/// For each tensor its path, the bytes of its storage, its offset and strides, and the first one on the
/// storage.
std::vector<std::string> places(const Cli& cli, const std::string& name) {
  const auto checkpoint = read_file(cli, name);
  std::vector<std::string> lines;
  for (const auto& row : checkpoint.tensors) {
    std::string first;
    for (const auto& other : checkpoint.tensors) {
      if (first.empty() && other.storage == row.storage) first = checkpoint.path(other.place);
    }
    const auto strides = checkpoint.strides(row);
    lines.push_back(fmt::format("{}: {} bytes, offset {}, strides {}, with {}", checkpoint.path(row.place),
                                checkpoint.storages[row.storage].bytes, row.offset, fmt::join(strides, "x"),
                                first));
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST_CASE("views get storages of their own, with the same values", "[cli][convert]") {
  const Cli cli;
  const auto* const description =
      "whole float32 4x3; row float32 3 storage=whole offset=3; column float32 4 storage=whole offset=1 "
      "strides=3; "
      "turned float32 3x2 storage=whole offset=6 strides=1x3; expanded float32 2x3 storage=whole "
      "strides=0x1; list/x float32 2 storage=whole";
  for (const auto& bytes : both(description)) {
    cli.write("in.pt", bytes);
    const auto report = cli.good("convert --compact in.pt --verify -f -o out.pt");
    CHECK(holds(report, "  compacted: 5 tensors got storages of their own, 48 B of storages -> 132 B\n"));
    CHECK(places(cli, "out.pt") == Lines{"whole: 48 bytes, offset 0, strides 3x1, with whole",
                                         "row: 12 bytes, offset 0, strides 1, with row",
                                         "column: 16 bytes, offset 0, strides 1, with column",
                                         "turned: 24 bytes, offset 0, strides 1x3, with turned",
                                         "expanded: 24 bytes, offset 0, strides 3x1, with expanded",
                                         "list.x: 8 bytes, offset 0, strides 1, with list.x"});
    for (const auto* const name : {"row", "column", "turned", "expanded"}) {
      const auto values = std::string("inspect --values 12 --get ") + name;
      CHECK(cli.good(values + " in.pt") == cli.good(values + " out.pt"));
    }
  }
}

TEST_CASE("the same view stays the same memory", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt",
            zip_of("base float32 9; a float32 4 storage=base offset=2; b float32 2x2 storage=base offset=2; "
                   "c float32 3 storage=base offset=2; d float32 2 storage=base offset=1 strides=3; e "
                   "float32 2 storage=base offset=1 "
                   "strides=3"));
  cli.good("convert -q --compact in.pt -o out.pt");
  CHECK(places(cli, "out.pt") ==
        Lines{"base: 36 bytes, offset 0, strides 1, with base", "a: 16 bytes, offset 0, strides 1, with a",
              "b: 16 bytes, offset 0, strides 2x1, with a", "c: 12 bytes, offset 0, strides 1, with c",
              "d: 8 bytes, offset 0, strides 1, with d", "e: 8 bytes, offset 0, strides 1, with d"});
}

TEST_CASE("a compact file is copied as it is", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 4x3; t float32 3x4 storage=a strides=1x3; empty float32 0"));
  const auto report = cli.good("convert --compact in.pt -o out.pt");
  CHECK(holds(report, "compacted: 0 tensors"));
  CHECK(cli.read("out.pt") == cli.read("in.pt"));
  CHECK(cli.run("convert --compact --must-change -f in.pt -o out.pt").status == 1);
}

TEST_CASE("what an edit before dropped no longer counts", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("base float32 900; a float32 4 storage=base offset=2"));
  const auto report = cli.good("apply -e 'filter-keys --drop base' -e 'convert --compact' in.pt -o out.pt");
  CHECK(holds(report, "  compacted: 1 tensor got a storage of its own, 3.60 kB of storages -> 16 B\n"));
  CHECK(places(cli, "out.pt") == Lines{"a: 16 bytes, offset 0, strides 1, with a"});
  CHECK(cli.read("out.pt").size() < 5000);
}

TEST_CASE("a tensor that views its storage too often is refused", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("a float32 2000000000x2000000000 strides=0x0 numel=1"));
  CHECK(cli.bad("convert --compact in.pt -o out.pt") ==
        "ckpt: in.pt: tensor 'a' views its storage so often that it can't have one of its own\n");
}

TEST_CASE("equal storages become one", "[cli][convert]") {
  const Cli cli;
  const auto* const description =
      "model/a float32 2x3; model/b float32 3; model/v float32 2 storage=model/a offset=1; model/i int32 6; "
      "model/e float32 0; "
      "ema/a float32 2x3 storage=model/a";
  cli.write("in.pt", zip_of(description));
  CHECK(holds(cli.good("convert --dedupe in.pt -o out.pt"), "in, "));
  CHECK(cli.read("out.pt") == cli.read("in.pt"));

  cli.take("torch-2.15-training.pt", "training.pt");
  const auto report = cli.good("convert --dedupe training.pt --verify -o one.pt");
  CHECK(holds(report, "  deduplicated: 9 groups of equal storages, 156 B saved\n"));
  CHECK(holds(report, "    one storage of 8 B: 'model[\"module.bn.bias\"]', 'ema[\"module.bn.bias\"]'\n"));
  CHECK(holds(report, "    and 4 groups more\n"));
  CHECK(holds(cli.good("convert --dedupe one.pt -o two.pt"), "0 B of them") == false);
  CHECK(cli.read("two.pt") == cli.read("one.pt"));
}

TEST_CASE("equal tensors of safetensors become aliases", "[cli][convert]") {
  const Cli cli;
  const auto build = [&](const char* file, const char* values) {
    cli.write(file, std::string(as_text(build_safetensors(values))));
  };
  build("in.safetensors", "b float32 2x3; c float32 2; z float32 3x2");
  build("two.safetensors", "a float32 2x3; b float32 2x3; c float32 2");
  cli.write("tied.pt", zip_of("b float32 2x3; a float32 2x3 storage=b"));
  cli.good("merge two.safetensors tied.pt --tied copy --verify -q -o same.safetensors");
  const auto report = cli.good("convert --dedupe --verify same.safetensors -o out.safetensors");
  CHECK(holds(report, "    one storage of 24 B: 'a', 'b'\n"));
  CHECK(holds(report, "  note: 1 key is tied: '__metadata__' leads from 'b' to 'a'\n"));
  CHECK(cli.good("inspect out.safetensors --get a --values 6") ==
        cli.good("inspect tied.pt --get a --values 6"));
  cli.good("convert --verify -q --to torch out.safetensors -o back.pt");
  CHECK(places(cli, "back.pt") == Lines{"a: 24 bytes, offset 0, strides 3x1, with a",
                                        "c: 8 bytes, offset 0, strides 1, with c",
                                        "b: 24 bytes, offset 0, strides 3x1, with a"});
  cli.write("zeros.pt", zip_of("z float32 2x3; b float32 3x2 storage=z"));
  cli.good(
      "merge -q in.safetensors zeros.pt --on-shape-mismatch take-other --tied copy -o shapes.safetensors");
  CHECK(holds(cli.good("convert --dedupe shapes.safetensors -o kept.safetensors"), "deduplicated") == false);
}

TEST_CASE("optimizers and modules keep tensors of their own", "[cli][convert]") {
  const Cli cli;
  for (const auto* const file : {"torch-2.15-module.pt", "torch-2.15-module-nested.pt"}) {
    cli.take(file, "in.pt");
    cli.good("convert -q --dedupe -f in.pt -o out.pt");
    CHECK(cli.read("out.pt") == cli.read("in.pt"));
    std::filesystem::remove("in.pt");
  }
}

TEST_CASE("every storage is tagged", "[cli][convert]") {
  const Cli cli;
  const auto* const description =
      "a float32 2 device=cuda:0; b float32 3 device=cuda:1; v float32 1 storage=a; c int64 2";
  for (const auto& bytes : both(description)) {
    cli.write("in.pt", bytes);
    CHECK(holds(cli.good("convert --device-tag cpu in.pt --verify -f -o out.pt"),
                "  2 storages tagged 'cpu'\n"));
    const auto checkpoint = read_file(cli, "out.pt");
    for (const auto& storage : checkpoint.storages) CHECK(checkpoint.devices[storage.device] == "cpu");
    cli.good("convert -q --device-tag cpu out.pt -f -o again.pt");
    CHECK(cli.read("again.pt") == cli.read("out.pt"));
  }
  CHECK(holds(cli.bad("convert --device-tag cuda in.pt -o out.pt"), "cpu"));
}

TEST_CASE("only tensors stay", "[cli][convert]") {
  const Cli cli;
  cli.write("in.pt", zip_of("epoch = 7; w float32 2; name = 'x'; b float32 3"));
  CHECK(holds(cli.good("convert --tensors-only in.pt -o out.pt"), "  dropped: 'epoch', 'name'\n"));
  CHECK(cli.keys("out.pt") == Lines{"w", "b"});
  CHECK(holds(cli.bad("inspect out.pt --get epoch"), "no 'epoch'"));

  for (const auto* const file : {"torch-2.15-extra-state.pt", "torch-2.15-module.pt"}) {
    cli.take(file, "extra.pt");
    cli.good("convert -q --tensors-only extra.pt --verify -f -o out.pt");
    CHECK_FALSE(holds(cli.good("inspect out.pt"), "_extra_state"));
    CHECK_FALSE(holds(cli.read("out.pt"), "_metadata"));
    CHECK(holds(cli.read("extra.pt"), "torch"));
    std::filesystem::remove("extra.pt");
  }
}

}  // namespace
}  // namespace ckpt::test
