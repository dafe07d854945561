// SPDX-License-Identifier: BSD-3-Clause
// Layers whose weights are packed for a backend, of torch.ao.nn.quantized and its kin: their own code, not
// their tables, gives the keys of a state dict. Source of the keys: `_save_to_state_dict` of the classes, in
// PyTorch 1.13 to 2.15, where they are the same.
#pragma once

#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/module_object.h"

namespace ckpt {

/// A key that a layer's code gives. Where the value is a number the layer gives a tensor of it, as
/// `torch.tensor(number)` makes it.
struct PackedKey {
  std::string_view name;
  Use value = kNoUse;
};

struct PackedKeys {
  std::vector<PackedKey> keys;  ///< in the order of the state dict, before those of the layer's children
  bool known = true;            ///< else its code gives keys that the file can't tell
};

/// Of a quantised layer, or of the object in it that holds the packed weights. No keys of other modules.
PackedKeys packed_keys(const ValueGraph& graph, const ModuleObject& module);

/// `_version` of the layer's class.
std::int64_t packed_version(std::string_view type);

/// Is the object, whose state is no `__dict__`, a quantised convolution?
bool is_packed_convolution(const ValueGraph& graph, std::string_view type, const std::vector<Use>& states);

}  // namespace ckpt
