// SPDX-License-Identifier: BSD-3-Clause
// Devices that a document names beside those of its storages: arguments of calls that make tensors on them.
#pragma once

#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// Uses of a device, a string or a torch.device, that the tensor made there would lie on; without those that
/// name the device `but_not` or "meta". For each the call takes a string as well.
CKPT_EXPORT std::vector<Use> device_arguments(const ValueGraph& graph, std::string_view but_not);

}  // namespace ckpt
