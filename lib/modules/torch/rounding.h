// SPDX-License-Identifier: BSD-3-Clause
// The one rounding at the end of a pass.
#pragma once

#include "modules/torch/operators.h"

namespace ckpt::torch_module {

/// Writes `values` (float64 or float32) into `target`, each rounded once, to nearest, ties to even.
void round_into(const Tensor& target, const Tensor& values);

}  // namespace ckpt::torch_module
