// SPDX-License-Identifier: BSD-3-Clause
// Methods that choose, number by number, which changes count.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// kSce, kRam, kRamPlus
std::unique_ptr<TensorMerge> make_select_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
