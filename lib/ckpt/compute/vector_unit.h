// SPDX-License-Identifier: BSD-3-Clause
// Which of the processor's vector units loops are made for. Results are the same on each.
#pragma once

#include <cstdint>

#include "ckpt/base/export.h"

namespace ckpt {

enum class VectorUnit : std::uint8_t { kBaseline, kAvx2, kAvx512 };

/// The widest that this processor has.
CKPT_EXPORT VectorUnit best_vector_unit();

}  // namespace ckpt
