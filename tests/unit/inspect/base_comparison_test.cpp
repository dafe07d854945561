// SPDX-License-Identifier: BSD-3-Clause
// What a fine-tune changed, from the bytes.
#include "ckpt/inspect/base_comparison.h"

#include <algorithm>
#include <string>
#include <vector>

#include "support/pickle_checkpoint.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Lines = std::vector<std::string>;

/// "key verdict" for each tensor of the file, then "- key" for what only the base has.
Lines compared(Checkpoint file, Checkpoint base) {
  FreezeQuestion question;
  auto every = NamePattern::parse("**");
  question.parameters.push_back(std::move(every).value());
  const auto reports = freeze_report(file, question);
  if (!reports.ok()) FAIL(reports.error().text());
  const auto comparison = compare_with_base(file, reports->front(), base, 0, 1, nullptr);
  if (!comparison.ok()) return {outcome_of(comparison)};
  Lines out;
  for (std::size_t i = 0; i < comparison->verdicts.size(); ++i) {
    out.push_back(fmt::format("{} {}", file.tensors[reports->front().entries[i].tensor].name,
                              verdict_name(comparison->verdicts[i])));
  }
  for (const auto name : comparison->only_in_base) out.push_back(fmt::format("- {}", name));
  return out;
}

Lines compared(std::string_view file, std::string_view base) {
  return compared(described(file), described(base));
}

Checkpoint golden(const std::string& name) {
  auto source = open_file_source(std::string(CKPT_TEST_DATA) + "/" + name);
  if (!source.ok()) FAIL(source.error().text());
  Diagnostics diagnostics;
  auto checkpoint = read_checkpoint(std::move(source).value(), diagnostics);
  if (!checkpoint.ok()) FAIL(checkpoint.error().text());
  return std::move(checkpoint).value();
}

}  // namespace

TEST_CASE("a tensor is equal to the base's, changed, or not to be compared", "[inspect]") {
  CHECK(compared("a float32 2x3; b float32 4; c float32 2; d float32 2; e int64 2",
                 "a float32 2x3; b float32 4 storage=x; c float32 3; d float16 2; f int64 2") ==
        Lines{"a equal", "b changed", "c other-shape", "d other-dtype", "e not-in-base", "- f"});
}

TEST_CASE("values are compared wherever they lie", "[inspect]") {
  // a bytes of the storage "w" behind an offset, in another container, without others around them
  const auto text =
      "w float32 6; v float32 2x3 storage=w; t float32 3x2 storage=w strides=1x3; u float32 2 storage=w "
      "offset=3";
  CHECK(compared(text, text) == Lines{"w equal", "v equal", "t equal", "u equal"});
  CHECK(compared(described(text), checkpoint_of(build_torch_legacy(text))) ==
        Lines{"w equal", "v equal", "t equal", "u equal"});
  CHECK(compared(described("w float32 6"), checkpoint_of(build_safetensors("w float32 6"))) ==
        Lines{"w equal"});
  // the same bytes in another order are other values
  CHECK(compared("t float32 2x2 storage=w numel=6", "t float32 2x2 storage=w strides=1x2 numel=6") ==
        Lines{"t changed"});
  CHECK(compared("t float32 2x2 storage=w strides=1x2", "t float32 2x2 storage=w strides=1x2") ==
        Lines{"t equal"});
  CHECK(compared("e float32 3x2 storage=w strides=0x1", "e float32 3x2 storage=w strides=0x1") ==
        Lines{"e equal"});
  CHECK(compared("e float32 0x2; s float32 scalar", "e float32 0x2; s float32 scalar") ==
        Lines{"e equal", "s equal"});
}

TEST_CASE("views of different strides are equal if their values are", "[inspect]") {
  // the builder's bytes come again after 64 float32
  CHECK(compared("c float32 2x2 storage=w numel=200", "c float32 2x2 storage=w strides=2x65 numel=200") ==
        Lines{"c equal"});
  CHECK(compared("c float32 2x2 storage=w numel=200", "c float32 2x2 storage=w strides=2x66 numel=200") ==
        Lines{"c changed"});
}

TEST_CASE("files of both byte orders hold equal values", "[inspect]") {
  const auto lines = compared(golden("torch-2.15-bigendian.pt"), golden("torch-2.15-bigendian.pt"));
  CHECK(std::all_of(lines.begin(), lines.end(), [](const auto& line) { return line.ends_with(" equal"); }));
}

TEST_CASE("sparse tensors are compared by their parts, quantised ones not", "[inspect]") {
  for (const auto& line : compared(golden("torch-2.15-sparse.pt"), golden("torch-2.15-sparse-legacy.pt")))
    CHECK(line.ends_with(" equal"));
  const auto quantized = compared(golden("torch-2.15-quantized.pt"), golden("torch-2.15-quantized.pt"));
  CHECK(quantized[0] == "module.weight equal");
  CHECK(quantized[1] == "module.qint8 not-compared");
}

TEST_CASE("a base without a common key is an error", "[inspect]") {
  CHECK(compared("module.a.weight float32 2", "a.weight float32 2") ==
        Lines{"not-found: no key in common with 'x': 'module.a.weight' here, 'a.weight' there, for example; "
              "hint: "
              "bring the keys into line with 'ckpt strip-dataparallel' or 'ckpt rename-keys'"});
}

TEST_CASE("the base's state dict is the one at the same path, or the only one", "[inspect]") {
  const auto chosen = [](std::string_view base, const std::string& root, std::optional<std::string> named) {
    auto checkpoint = described(base);
    const auto dict = choose_base(checkpoint, root, named);
    return dict.ok() ? checkpoint.path(checkpoint.state_dicts[*dict].place) : outcome_of(dict);
  };
  CHECK(chosen("w float32 2", "model", std::nullopt) == "");
  CHECK(chosen("model/w float32 2; ema/w float32 2", "ema", std::nullopt) == "ema");
  CHECK(chosen("model/w float32 2; ema/w float32 2", "", "ema") == "ema");
  CHECK(chosen("model/w float32 2; ema/w float32 2", "", std::nullopt) ==
        "usage: several state dicts, and none at the root as in the file: 'model', 'ema'; hint: choose one "
        "with "
        "--base-root PATH");
  CHECK(chosen("epoch = 1", "", std::nullopt).starts_with("not-found: no state dict in the file"));
}
