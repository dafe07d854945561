// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/libtorch.h"

#include <filesystem>
#include <fstream>

#include "support/catch.h"
#include "support/temp_dir.h"

namespace ckpt::test {
namespace {

namespace fs = std::filesystem;

/// A folder with a file of LibTorch's name; nothing opens it.
std::string place_library(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "libtorch_cpu.so") << "not really";
  return folder.string();
}

TEST_CASE("LibTorch is taken from the first place that is named", "[compute]") {
  const TempDir dir;
  const fs::path root = dir.path();
  LibTorchSearch search;
  search.configured = place_library(root / "configured");
  CHECK(find_libtorch(search).value().folder == search.configured);

  search.environments = {"", (root / "venv").string()};
  CHECK(find_libtorch(search).value().folder == search.configured);
  const auto packaged = place_library(root / "venv/lib/python3.12/site-packages/torch/lib");
  CHECK(find_libtorch(search).value().folder == packaged);
  CHECK(find_libtorch(search).value().source == "CONDA_PREFIX");
  search.environments = {(root / "venv").string(), ""};
  CHECK(find_libtorch(search).value().source == "VIRTUAL_ENV");

  search.variable = place_library(root / "variable");
  CHECK(find_libtorch(search).value().folder == search.variable);
  CHECK(find_libtorch(search).value().source == "CKPT_LIBTORCH");
  search.option = place_library(root / "option");
  CHECK(find_libtorch(search).value().folder == search.option);
  CHECK(find_libtorch(search).value().source == "--libtorch");
}

TEST_CASE("the folder around LibTorch's libraries may be named as well", "[compute]") {
  const TempDir dir;
  const fs::path root = dir.path();
  const auto packaged = place_library(root / "site-packages/torch/lib");
  for (const auto* named : {"site-packages", "site-packages/torch", "site-packages/torch/lib/"}) {
    CAPTURE(named);
    LibTorchSearch search;
    search.option = (root / named).string();
    CHECK(find_libtorch(search).value().folder == packaged);
  }
}

TEST_CASE("a named folder without LibTorch is an error, whatever else there is", "[compute]") {
  const TempDir dir;
  const fs::path root = dir.path();
  LibTorchSearch search;
  search.configured = place_library(root / "configured");
  search.variable = (root / "nothing").string();
  const auto error = std::move(find_libtorch(search)).error();
  CHECK(error.code() == ErrorCode::kBackend);
  CHECK(error.text() == "CKPT_LIBTORCH names '" + search.variable + "', which holds no libtorch_cpu.so");
}

TEST_CASE("the working directory is no place for LibTorch", "[compute]") {
  const TempDir dir;
  const auto before = fs::current_path();
  place_library(fs::path(dir.path()) / "lib/python3.12/site-packages/torch/lib");
  place_library(dir.path());
  fs::current_path(dir.path());
  LibTorchSearch search;
  search.environments = {"", "."};
  const auto found = find_libtorch(search);
  search.variable = ".";
  const auto named = find_libtorch(search);
  fs::current_path(before);
  REQUIRE(!found.ok());
  CHECK(found.error().text() == "no LibTorch was found");
  REQUIRE(!named.ok());
  CHECK(named.error().text() == "CKPT_LIBTORCH names '.', which is no absolute path");
  CHECK(found.error().hint().find("--libtorch") != std::string::npos);
}

}  // namespace
}  // namespace ckpt::test
