// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/libtorch.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLibrary = "libtorch_cpu.so";
constexpr std::array kEnvironments = {"VIRTUAL_ENV", "CONDA_PREFIX"};

std::string environment_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::optional<std::string> library_folder(const fs::path& place) {
  std::error_code error;
  for (const auto* below : {"", "lib", "torch/lib"}) {
    const auto folder = place / below;
    if (!fs::exists(folder / kLibrary, error)) continue;
    const auto library = fs::absolute(folder / kLibrary, error).lexically_normal();
    return library.parent_path().string();
  }
  return std::nullopt;
}

/// The folders lib/python3*/site-packages of a Python environment, the newest Python first.
std::vector<fs::path> site_packages(const fs::path& environment) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(environment / "lib", error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().starts_with("python3")) found.push_back(it->path() / "site-packages");
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

Result<LibTorch> named(const std::string& place, const std::string& source) {
  if (auto folder = library_folder(place)) return LibTorch{*std::move(folder), source};
  return Error(ErrorCode::kBackend,
               fmt::format("{} names {}, which holds no {}", source, ckpt::quoted(place), kLibrary))
      .with_hint("name the folder 'torch/lib' of an installed PyTorch, or LibTorch's own folder");
}

}  // namespace

LibTorchSearch LibTorchSearch::from_environment(const std::string& option) {
  LibTorchSearch search{option, environment_variable("CKPT_LIBTORCH"), {}, CKPT_CONFIGURED_LIBTORCH};
  for (const auto* name : kEnvironments) search.environments.push_back(environment_variable(name));
  return search;
}

Result<LibTorch> find_libtorch(const LibTorchSearch& search) {
  if (!search.option.empty()) return named(search.option, "--libtorch");
  if (!search.variable.empty()) {
    if (fs::path(search.variable).is_absolute()) return named(search.variable, "CKPT_LIBTORCH");
    return Error(ErrorCode::kBackend, fmt::format("CKPT_LIBTORCH names {}, which is no absolute path",
                                                  ckpt::quoted(search.variable)));
  }
  for (std::size_t i = 0; i < search.environments.size(); ++i) {
    const auto& environment = search.environments[i];
    if (!fs::path(environment).is_absolute()) continue;
    for (const auto& packages : site_packages(environment)) {
      if (auto folder = library_folder(packages)) return LibTorch{*std::move(folder), kEnvironments.at(i)};
    }
  }
  if (!search.configured.empty()) {
    if (auto folder = library_folder(search.configured))
      return LibTorch{*std::move(folder), "found when ckpt was built"};
  }
  return Error(ErrorCode::kBackend, "no LibTorch was found")
      .with_hint(
          "install PyTorch 2.10 or newer (pip install torch) and activate its environment, or name its "
          "folder 'torch/lib' with --libtorch or CKPT_LIBTORCH");
}

}  // namespace ckpt
