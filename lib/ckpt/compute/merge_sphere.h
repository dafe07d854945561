// SPDX-License-Identifier: BSD-3-Clause
// Methods that measure the angles between tensors first, and then add the tensors with the factors found.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// kSlerp, kNuslerp, kMultislerp, kKarcher, kModelStock
std::unique_ptr<TensorMerge> make_sphere_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
