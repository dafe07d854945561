// SPDX-License-Identifier: BSD-3-Clause
// What `state_dict()` of a whole nn.Module would give beyond its keys, as far as a file without the code of
// its classes can tell: `_metadata`, and what only that code knows.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/module_object.h"

namespace ckpt {

/// An entry of `_metadata`.
struct ModuleMetadata {
  std::string path;  ///< "layer1.0"; "" for the root
  std::int64_t version = 1;
  /// Of parameters with spectral_norm, "weight.version" and its version.
  std::vector<std::pair<std::string, std::int64_t>> spectral_norms;
};

struct ModuleState {
  std::vector<ModuleMetadata> metadata;  ///< in the order of `state_dict()`
  std::vector<std::string> notes;        ///< sentences: what the file can't tell
};

/// Of a state dict that is `of_module`. Errors: kUnsupported, naming a module whose keys the file can't tell:
/// one with packed weights, or an object among the modules that shows no tables.
CKPT_EXPORT Result<ModuleState> read_module_state(const Checkpoint& checkpoint, std::uint32_t state_dict);

/// `_version` of the module's class.
std::int64_t module_version(const ValueGraph& graph, const ModuleObject& module);

}  // namespace ckpt
