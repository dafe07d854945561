// SPDX-License-Identifier: BSD-3-Clause
// Reads the entries of a central directory, in windows, with the checks miniz makes on each.
#pragma once

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/zip/end_records.h"
#include "ckpt/zip/entry_table.h"

namespace ckpt {

/// The entries that `end` announces. What other readers see differently becomes a finding.
/// Errors: kCorrupt (an entry that is none, is cut short, lies outside the file, or contradicts itself),
/// kUnsupported (masked headers, split archives), kIo.
Result<EntryTable> read_central_directory(const ByteSource& source, const EndRecords& end,
                                          Diagnostics& diagnostics);

}  // namespace ckpt
