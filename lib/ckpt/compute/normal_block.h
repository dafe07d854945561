// SPDX-License-Identifier: BSD-3-Clause
// Sixteen float32 values of a normal distribution at once, with the bits that PyTorch's AVX2 code gives.
#pragma once

#include <span>

namespace ckpt {

/// Makes 16 uniform values in [0, 1) normal with mean 0: of each 8 + 8 a pair by Box and Muller. They are
/// multiples of 2^-24. The bits do not depend on the processor.
void make_normal(std::span<float, 16> values, float std);

/// The same without any instruction that not all processors have; for tests.
void make_normal_portably(std::span<float, 16> values, float std);

}  // namespace ckpt
