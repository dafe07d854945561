// SPDX-License-Identifier: BSD-3-Clause
// Methods whose elements are made of the elements at their place alone, in one pass.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// kMean, kLinear, kTaskArithmetic, kNearswap, kAddDifference, kWeightedSubtraction, kSumTwice,
/// kTripleSum
std::unique_ptr<TensorMerge> make_linear_merge(const MergeJob& job, VectorUnit unit);
/// Floats that count something, whatever the method.
std::unique_ptr<TensorMerge> make_counter_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
