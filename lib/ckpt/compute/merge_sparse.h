// SPDX-License-Identifier: BSD-3-Clause
// Task arithmetic with changes that are thinned out before they are added.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// kTies, kDareLinear, kDareTies, kDella, kDellaLinear, kBreadcrumbs, kBreadcrumbsTies
std::unique_ptr<TensorMerge> make_sparse_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
