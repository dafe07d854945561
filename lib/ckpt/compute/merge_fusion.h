// SPDX-License-Identifier: BSD-3-Clause
// kArceeFusion: changes are kept that matter much, by how far they go and how far their row's softmax moves.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

std::unique_ptr<TensorMerge> make_fusion_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
