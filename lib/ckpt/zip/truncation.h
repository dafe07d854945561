// SPDX-License-Identifier: BSD-3-Clause
// Saying what is wrong with a file that has no zip end record.
#pragma once

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

/// The error for `source`, whose last bytes `tail` hold no whole end record: cut short, with the number of
/// missing bytes where the rest of the file tells it, or no zip archive at all. Reads a few headers only.
Error describe_truncation(const ByteSource& source, ByteView tail);

}  // namespace ckpt
