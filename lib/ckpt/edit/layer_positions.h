// SPDX-License-Identifier: BSD-3-Clause
// Where in the depth of a model each key stands, for parameters that change from layer to layer.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// From 0 for the first layer to 1 for the last one, for each key. A layer is what stands below the first
/// segment that is a number, and is one of those whose names up to it differ in numbers alone
/// ("layers.0" and "layers.1"; "layer1.0" and "layer2.0"): counted apart where there are several kinds, as
/// encoder and decoder. A lone layer stands at 1. A key of no layer stands at 0 in front of the first that is
/// of one, else at 1, and at 0 where there are no layers.
CKPT_EXPORT std::vector<double> layer_positions(std::span<const std::string_view> keys);

}  // namespace ckpt
