// SPDX-License-Identifier: BSD-3-Clause
// Raw deflate streams (method 8), whole in memory: only metadata is ever deflated in a checkpoint.
#pragma once

#include <cstdint>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"

namespace ckpt {

/// The `size` bytes that `deflated` stands for. Bytes behind the stream's end are ignored, as miniz does.
/// Errors: kCorrupt (damaged, of another size, or of a size that deflate can't reach from so few bytes).
Result<Bytes> inflate(ByteView deflated, std::uint64_t size);

}  // namespace ckpt
