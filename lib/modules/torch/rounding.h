// SPDX-License-Identifier: BSD-3-Clause
// The one rounding at the end of a pass.
#pragma once

#include <cstdint>

#include "modules/torch/operators.h"

namespace ckpt::torch_module {

/// Writes `values` (float64 or float32) into `target`, each rounded once, to nearest, ties to even; all NaNs
/// are one, the native kernels'. Both are on `device`.
void round_into(const Tensor& target, const Tensor& values, std::int32_t device);

}  // namespace ckpt::torch_module
