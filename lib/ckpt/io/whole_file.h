// SPDX-License-Identifier: BSD-3-Clause
// Small files that are read whole, wherever they come from.
#pragma once

#include <cstdint>
#include <string>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

/// All of a file, or of standard input for "-". Nothing is spooled, and an endless stream is given up at
/// `limit` bytes. Errors: kNotFound, kIo; kUnsupported for a directory and for more than `limit` bytes;
/// kRefused for a terminal.
CKPT_EXPORT Result<std::string> read_whole_file(const std::string& path, std::uint64_t limit);

}  // namespace ckpt
