// SPDX-License-Identifier: BSD-3-Clause
// Small things that the files of merge methods share.
#pragma once

#include <memory>

#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// Weights whose sum is nearer to 0 divide by 1.
inline constexpr double kTinySum = 1e-8;

/// A `Merge` that computes in what the job asks for.
template <template <typename> typename Merge>
std::unique_ptr<TensorMerge> make_for_real(const MergeJob& job, VectorUnit unit) {
  if (job.accumulate == Accumulate::kFloat32) return std::make_unique<Merge<float>>(job, unit);
  return std::make_unique<Merge<double>>(job, unit);
}

}  // namespace ckpt
