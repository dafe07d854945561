// SPDX-License-Identifier: BSD-3-Clause
// Reading an output back before it is published.
#pragma once

#include <memory>

#include "ckpt/base/export.h"
#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Compares `written` with what `layout` planned, byte for byte, and reads it as a checkpoint whose state
/// dicts have the planned keys. Tells `progress`, if any, after each piece. Errors: kCorrupt with the first
/// difference; kIo.
CKPT_EXPORT Status verify(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
                          const std::shared_ptr<const ByteSource>& written, Progress* progress = nullptr);

}  // namespace ckpt
