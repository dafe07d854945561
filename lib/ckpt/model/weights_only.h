// SPDX-License-Identifier: BSD-3-Clause
// What torch.load(weights_only=True) lets through: the names its unpickler resolves, as PyTorch 2.15 has
// them. Source: torch/_weights_only_unpickler.py; the list was dumped from the running library. The opcodes
// it knows are in pickle/restricted_spelling.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/pickle/restricted_spelling.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

inline constexpr std::string_view kNewestTorch = "2.15";  ///< the release the lists are of

/// A global of a pickle: "collections.OrderedDict", Python 2 names mapped to those of Python 3.
struct GlobalUse {
  std::string name;
  bool weights_only = false;  ///< would it be let through?
};

/// The name of a global of the pickle, as GlobalUse has it; `use` may be a GET. Empty for what is none.
CKPT_EXPORT std::string global_name(const ValueGraph& graph, Use use);

/// Would the global of that name be let through?
CKPT_EXPORT bool is_allowed_global(std::string_view name);

/// Every global the pickle names, sorted, each once.
CKPT_EXPORT std::vector<GlobalUse> globals_of(const ValueGraph& graph);

}  // namespace ckpt
