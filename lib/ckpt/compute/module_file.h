// SPDX-License-Identifier: BSD-3-Clause
// Modules: libraries of ckpt that are opened when they are needed and not before.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"

namespace ckpt {

/// The folders that modules are looked for in: CKPT_MODULE_PATH's, if it is set, else the program's own and
/// the one where they are installed, as seen from there. All absolute; the working directory is none of them.
std::vector<std::string> module_folders();

/// Opens the module of that file name and returns what its `symbol` names. It stays open. Errors: kBackend.
Result<void*> open_module(std::string_view file_name, const char* symbol);

/// Opens any shared library by its path, for good. `is_global`: what is opened later may use its symbols.
/// Returns its handle. Errors: kBackend.
Result<void*> open_library(const std::string& path, bool is_global);

}  // namespace ckpt
