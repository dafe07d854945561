// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/vector_unit.h"

namespace ckpt {

VectorUnit best_vector_unit() {
#ifdef __x86_64__
  static const auto best = [] {
    const bool is_widest = __builtin_cpu_supports("avx512f") != 0 &&
                           __builtin_cpu_supports("avx512dq") != 0 &&
                           __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0;
    if (is_widest) return VectorUnit::kAvx512;
    return __builtin_cpu_supports("avx2") != 0 ? VectorUnit::kAvx2 : VectorUnit::kBaseline;
  }();
  return best;
#else
  return VectorUnit::kBaseline;
#endif
}

}  // namespace ckpt
