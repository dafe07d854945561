// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/module_file.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

namespace fs = std::filesystem;

Error cannot_open(std::string_view path) {
  const char* why = dlerror();
  return {ErrorCode::kBackend,
          fmt::format("cannot open {}: {}", ckpt::quoted(path), why == nullptr ? "?" : why)};
}

}  // namespace

std::vector<std::string> module_folders() {
  std::vector<std::string> folders;
  if (const char* named = std::getenv("CKPT_MODULE_PATH"); named != nullptr && *named != '\0') {
    if (fs::path(named).is_absolute()) folders.emplace_back(named);
    return folders;
  }
  std::error_code error;
  const auto program = fs::read_symlink("/proc/self/exe", error).parent_path();
  if (error) return folders;
  folders.push_back(program.string());
  folders.push_back((program / CKPT_MODULE_DIRECTORY).lexically_normal().string());
  return folders;
}

Result<void*> open_library(const std::string& path, bool is_global) {
  void* handle = dlopen(path.c_str(), RTLD_LAZY | (is_global ? RTLD_GLOBAL : RTLD_LOCAL));
  if (handle == nullptr) return cannot_open(path);
  return handle;
}

Result<void*> open_module(std::string_view file_name, const char* symbol) {
  const auto folders = module_folders();
  for (const auto& folder : folders) {
    const auto path = fs::path(folder) / file_name;
    std::error_code error;
    if (!fs::exists(path, error)) continue;
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return cannot_open(path.string());
    void* found = dlsym(handle, symbol);
    if (found == nullptr) return cannot_open(path.string());
    return found;
  }
  return Error(ErrorCode::kBackend, fmt::format("no module {} is installed in {}", ckpt::quoted(file_name),
                                                fmt::join(folders, " or ")))
      .with_hint("this ckpt was built without it; CKPT_MODULE_PATH names another absolute folder");
}

}  // namespace ckpt
