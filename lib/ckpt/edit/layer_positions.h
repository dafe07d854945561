// SPDX-License-Identifier: BSD-3-Clause
// Where in the depth of a model each key stands, for parameters that change from layer to layer.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// From 0 for the first layer to 1 for the last one, for each key. A layer is what stands below the first
/// segment that is a number, and is one of those whose names up to it differ in numbers alone
/// ("layers.0" and "layers.1"; "layer1.0" and "layer2.0"): counted apart where there are several kinds, as
/// encoder and decoder. A lone layer stands at 1, a key of no layer at 0. So does mergekit for the layers of
/// the models that it knows.
CKPT_EXPORT std::vector<double> layer_positions(std::span<const std::string_view> keys);

/// The same by key; keys may be named more than once.
std::unordered_map<std::string, double> layer_positions_by_key(std::span<const std::string_view> keys);

}  // namespace ckpt
