// SPDX-License-Identifier: BSD-3-Clause
// Values of one dtype as values of another, with the bits that PyTorch's `tensor.to(dtype)` gives
// (element_casts.h).
#pragma once

#include <cstddef>
#include <span>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Is there a conversion? Between floats of whole bytes, integers and booleans; between complex ones; any
/// dtype to itself.
CKPT_EXPORT bool can_convert(Dtype from, Dtype to);

/// Little-endian values of `from` as values of `to`. Precondition: `can_convert`, and `out` has room for as
/// many values as `values` holds.
CKPT_EXPORT void convert(Dtype from, ByteView values, Dtype to, std::byte* out);

/// Turns each number round; both halves of a complex one on their own.
CKPT_EXPORT void swap_byte_order(Dtype dtype, std::span<std::byte> values);

}  // namespace ckpt
