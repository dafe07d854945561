// SPDX-License-Identifier: BSD-3-Clause
// What torch.load(weights_only=True) lets through: the names its unpickler resolves and the opcodes it
// knows, as PyTorch 2.15 has them. Source: torch/_weights_only_unpickler.py; the lists were dumped from the
// running library.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

inline constexpr std::string_view kNewestTorch = "2.15";  ///< the release the lists are of

/// A global of a pickle: "collections.OrderedDict", Python 2 names mapped to those of Python 3.
struct GlobalUse {
  std::string name;
  bool weights_only = false;  ///< would it be let through?
};

/// Every global the pickle names, sorted, each once.
CKPT_EXPORT std::vector<GlobalUse> globals_of(const ValueGraph& graph);

/// Names of opcodes in the pickle that the weights_only unpickler does not know, each once.
CKPT_EXPORT std::vector<std::string> refused_opcodes(const ValueGraph& graph);

}  // namespace ckpt
