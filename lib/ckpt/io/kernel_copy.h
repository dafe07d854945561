// SPDX-License-Identifier: BSD-3-Clause
// Copying without looking: the kernel shares or moves the bytes where it can, and where it can't they go
// through one bounded buffer.
#pragma once

#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"
#include "ckpt/io/file.h"

namespace ckpt {

/// Appends `extent` of `source` at the file position of `destination`, which may be a pipe.
/// Whole blocks are shared with the source (a reflink) where the file system offers it and both offsets
/// are equal modulo its block size. Errors: kCorrupt when the source ends early; kIo.
Status kernel_copy(const ByteSource& source, Extent extent, const File& destination);

}  // namespace ckpt
