// SPDX-License-Identifier: BSD-3-Clause
// What becomes of tensors that hold no floats: integers by a rule, never a float.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// Precondition: inputs and result are of one dtype, which is no float and not complex; kMax and kSum:
/// integers or bools.
std::unique_ptr<TensorMerge> make_integer_merge(const MergeJob& job);

}  // namespace ckpt
