// SPDX-License-Identifier: BSD-3-Clause
// Tensors that PyTorch negates or conjugates only when it reads them: their bytes are not their values.
#pragma once

#include <cstddef>
#include <span>

#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"
#include "ckpt/model/tensor_info.h"

namespace ckpt {

/// What a tensor's flags say about its bytes.
struct LazyBits {
  bool negative = false;
  bool conjugate = false;
};

inline LazyBits lazy_bits_of(const TensorInfo& tensor) {
  return {tensor.has(kNegative), tensor.has(kConjugate)};
}

/// Turns little-endian bytes, whole items, into the values that they stand for. A negated NaN has the other
/// sign. Precondition: a float, complex or integer dtype of whole bytes.
CKPT_EXPORT void resolve_lazy_bits(Dtype dtype, LazyBits bits, std::span<std::byte> values);

}  // namespace ckpt
