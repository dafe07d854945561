// SPDX-License-Identifier: BSD-3-Clause
// What a float of few bits means, and floats of eight bits by PyTorch's names for them.
#pragma once

#include <cstdint>

#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Of a sign, `exponent` and `mantissa` bits, with IEEE's meaning of the top exponent unless `finite`.
CKPT_EXPORT double small_float(std::uint32_t bits, int exponent, int mantissa, int bias, bool finite);

/// The value of a byte. Precondition: `dtype` is a float of eight bits.
CKPT_EXPORT double float8_value(Dtype dtype, std::uint8_t byte);

}  // namespace ckpt
