// SPDX-License-Identifier: BSD-3-Clause
// kLora: a weight and the products of low-rank factors that change it.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

std::unique_ptr<TensorMerge> make_lora_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
