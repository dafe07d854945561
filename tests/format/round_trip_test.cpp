// SPDX-License-Identifier: BSD-3-Clause
// One description through every reader and writer, and the files that real programs wrote: without edits the
// bytes stay, after edits the tensors are those predicted.
#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "support/catch.h"
#include "support/checkpoint_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Build = Bytes (*)(std::string_view);

const std::vector<std::pair<std::string, Build>> kBuilders = {
    {"torch zip", build_torch_zip},
    {"torch legacy", build_torch_legacy},
    {"safetensors", build_safetensors},
};

constexpr auto kFlat =
    "module.a.weight float32 4x3; module.a.bias float32 4; module.b bool 7; module.n int64 scalar; "
    "module.e float16 0x5; module.z float64 2";
constexpr auto kNested =
    "epoch = 7; model/module.w float32 2x3; model/module.t float32 3x2 storage=model/module.w strides=1x3; "
    "model/module.p float32 3 storage=model/module.w offset=3 parameter; model/module.x float32 5x4 "
    "strides=0x1; "
    "best/w uint8 3 numel=10 offset=5 device=cuda:0; lr = 1";

Layout lay_out(const Checkpoint& checkpoint) {
  auto layout = format_of(checkpoint.format).lay_out(checkpoint);
  if (!layout) FAIL(layout.error().text());
  return std::move(layout).value();
}

/// What the state dicts' keys hold: "root name" → the tensor's line without its path.
std::map<std::string, std::string> by_name(const Checkpoint& checkpoint) {
  std::map<std::string, std::string> out;
  const auto lines = table(checkpoint);
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const auto& dict = checkpoint.state_dicts[i];
    for (std::uint32_t k = 0; k < dict.entries.size(); ++k) {
      if (dict.entries[k].tensor == kNoIndex || checkpoint.is_dropped(i, k)) continue;
      const auto& line = lines[dict.entries[k].tensor];
      const auto path = checkpoint.path(checkpoint.tensors[dict.entries[k].tensor].place);
      out[checkpoint.path(dict.place) + " " + checkpoint.name(i, k)] = line.substr(path.size());
    }
  }
  return out;
}

/// Drops every third key, gives every other one a new name.
void edit(Checkpoint& checkpoint) {
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    const auto& dict = checkpoint.state_dicts[i];
    for (std::uint32_t k = 0; k < dict.entries.size(); ++k) {
      if (k % 3 == 1) {
        checkpoint.drop(i, k);
      } else if (k % 2 == 0) {
        checkpoint.rename(i, k, "x." + checkpoint.name(i, k) + "é");
      }
    }
  }
}

std::vector<std::string> golden_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto name = entry.path().filename().string();
    if (name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".bin") ||
        name.ends_with(".safetensors")) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<Checkpoint> read_file(const std::string& path, Diagnostics& diagnostics) {
  auto source = open_file_source(path);
  if (!source) return std::move(source).error();
  return read_checkpoint(*source, diagnostics);
}

}  // namespace

TEST_CASE("every format reads the same tensors from one description", "[format]") {
  const auto expected = table(read_bytes(build_torch_zip(kFlat)).value());
  REQUIRE(expected.size() == 6);
  for (const auto& [name, build] : kBuilders) {
    CAPTURE(name);
    const auto checkpoint = read_bytes(build(kFlat)).value();
    CHECK(format_of(checkpoint.format).name() == name);
    CHECK(table(checkpoint) == expected);
    CHECK(checkpoint.state_dicts.size() == 1);
  }
  CHECK(table(read_bytes(build_torch_legacy(kNested)).value()) ==
        table(read_bytes(build_torch_zip(kNested)).value()));
}

TEST_CASE("without edits the bytes stay", "[format]") {
  for (const auto& [name, build] : kBuilders) {
    CAPTURE(name);
    const auto bytes = build(kFlat);
    const auto checkpoint = read_bytes(bytes).value();
    CHECK(written(lay_out(checkpoint), checkpoint) == bytes);
  }
}

TEST_CASE("after renames and drops a file holds what was planned", "[format]") {
  for (const auto& [name, build] : kBuilders) {
    for (const auto* description : {kFlat, kNested}) {
      if (description == kNested && name == "safetensors") continue;
      CAPTURE(name, description);
      auto checkpoint = read_bytes(build(description)).value();
      edit(checkpoint);
      const auto bytes = written(lay_out(checkpoint), checkpoint);
      const auto again = read_bytes(bytes);
      REQUIRE(again);
      CHECK(by_name(*again) == by_name(checkpoint));
      CHECK(again->entries.size() == checkpoint.entries.size());
      CHECK(written(lay_out(*again), *again) == bytes);
    }
  }
}

TEST_CASE("a rename and its inverse give the file back", "[format]") {
  for (const auto& [name, build] : kBuilders) {
    if (name == "torch zip") continue;  // the archive is no torch.save's: its records are not padded
    CAPTURE(name);
    const auto bytes = build(kFlat);
    auto checkpoint = read_bytes(bytes).value();
    checkpoint.rename(0, 1, "other");
    auto other = read_bytes(written(lay_out(checkpoint), checkpoint)).value();
    other.rename(0, 1, "module.a.bias");
    CHECK(written(lay_out(other), other) == bytes);
  }
}

TEST_CASE("every legacy and safetensors file that a real program wrote is read and laid out again",
          "[format]") {
  std::size_t files = 0;
  for (const auto& path : golden_files()) {
    CAPTURE(path);
    Diagnostics diagnostics;
    auto checkpoint = read_file(path, diagnostics);
    const bool ours = path.find("-legacy") != std::string::npos || path.ends_with(".safetensors") ||
                      path.ends_with(".pth") || path.ends_with(".bin");
    if (!ours) continue;
    ++files;
    REQUIRE(checkpoint);
    CHECK(diagnostics.first_error() == nullptr);
    const auto& source = *checkpoint->parts.front().source;
    CHECK(written(lay_out(*checkpoint), *checkpoint) == source.read({0, source.size()}).value());
  }
  CHECK(files > 0);
}

TEST_CASE("edits of files that real programs wrote come out as planned", "[format]") {
  for (const auto& path : golden_files()) {
    Diagnostics diagnostics;
    auto checkpoint = read_file(path, diagnostics);
    if (!checkpoint || checkpoint->state_dicts.empty() || diagnostics.first_error() != nullptr) continue;
    if (std::any_of(checkpoint->state_dicts.begin(), checkpoint->state_dicts.end(),
                    [](const StateDict& dict) { return dict.of_module; })) {
      continue;
    }
    CAPTURE(path);
    edit(*checkpoint);
    const auto layout = format_of(checkpoint->format).lay_out(*checkpoint);
    if (!layout) {
      CHECK(layout.error().text() == "");
      continue;
    }
    const auto again = read_bytes(written(*layout, *checkpoint));
    if (!again) {
      CHECK(again.error().text() == "");
      continue;
    }
    CHECK(by_name(*again) == by_name(*checkpoint));
  }
}
