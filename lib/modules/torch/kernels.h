// SPDX-License-Identifier: BSD-3-Clause
// The passes that the module makes with LibTorch: what ckpt/compute/module_abi.h says of each kernel.
#pragma once

#include "ckpt/compute/module_abi.h"

namespace ckpt::torch_module {

bool supports(const CkptKernelCall& call);

/// Precondition: `supports`. Throws OperatorError.
void combine(const CkptKernelCall& call, const CkptValues& target);

}  // namespace ckpt::torch_module
