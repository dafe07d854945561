// SPDX-License-Identifier: BSD-3-Clause
// Finding the end of a zip archive: the end record in the file's last 64 KiB, the zip64 records before it,
// and the range of the central directory they announce.
//
// The search is miniz's: the last signature that has a whole end record behind it wins. Whatever could
// make another reader choose another end record, or another directory, becomes a finding.
#pragma once

#include <cstdint>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"

namespace ckpt {

struct EndRecords {
  std::uint64_t entries = 0;
  Extent central;  ///< the central directory, inside the file and before the end record
  Extent comment;
  std::uint64_t end_offset = 0;  ///< of the classic end record
  std::uint32_t disk = 0;        ///< number of this disk: 0, or 1 where it counts from there
  bool zip64 = false;
};

/// Errors: kCorrupt (no end record, a directory outside the file or too small for its entries),
/// kUnsupported (split archives, more than 2^24 entries), kIo.
Result<EndRecords> find_end_records(const ByteSource& source, Diagnostics& diagnostics);

}  // namespace ckpt
