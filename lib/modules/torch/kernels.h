// SPDX-License-Identifier: BSD-3-Clause
// The passes that the module makes with LibTorch: what ckpt/compute/module_abi.h says of each kernel.
#pragma once

#include <cstddef>

#include "ckpt/compute/module_abi.h"

namespace ckpt::torch_module {

bool supports(const CkptKernelCall& call);

/// How many numbers a kernel reduces to; 0 for one that combines.
std::size_t result_count(const CkptKernelCall& call);

/// Precondition of both: `supports`, and a kernel of that sort. They throw OperatorError.
void combine(const CkptKernelCall& call, const CkptValues& target);
void reduce(const CkptKernelCall& call, double* results);

}  // namespace ckpt::torch_module
