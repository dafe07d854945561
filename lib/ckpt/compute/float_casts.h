// SPDX-License-Identifier: BSD-3-Clause
// The casts between floats that whole checkpoints go through, by the widest vector unit there is.
#pragma once

#include <cstddef>

#include "ckpt/base/bytes.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Little-endian values of `from` as values of `to`, as by `cast_element` on every processor. False, and
/// nothing done, for a pair that has no vector code. Precondition: `out` has room for as many values as
/// `values` holds.
bool cast_floats(Dtype from, ByteView values, Dtype to, std::byte* out);

}  // namespace ckpt
