// SPDX-License-Identifier: BSD-3-Clause
// From a directory entry to the bytes: local headers are read one at a time, through a window, so that
// records that are small neighbours cost one read together.
#pragma once

#include <cstdint>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"
#include "ckpt/zip/entry_table.h"
#include "ckpt/zip/records.h"
#include "ckpt/zip/window_reader.h"

namespace ckpt {

/// Where one record lies, from its local header.
struct RecordLocation {
  Extent header;          ///< local header with name and extra field
  Extent data;            ///< `stored_size` bytes
  Extent descriptor;      ///< data descriptor behind the data; empty if there is none
  bool same_name = true;  ///< the local header has the name that the directory has

  Extent whole() const { return {header.offset, descriptor.end() - header.offset}; }
};

/// A local header as it was read. The place of the data follows from it alone.
struct FoundHeader {
  bool valid = false;  ///< the signature is there, and the whole header lies inside the file
  LocalHeader fields;
  Extent whole;
  bool same_name = false;
};

/// Reads local headers; good for many records in the order of the file. Not for several threads.
/// The source and the table must outlive it.
class CKPT_EXPORT RecordLocator {
 public:
  RecordLocator(const ByteSource& source, const EntryTable& table, Extent central);

  /// Header, data and descriptor of the record.
  /// Errors: kCorrupt (no local header, data outside the file or inside the central directory), kIo.
  Result<RecordLocation> locate(RecordId record);

  /// The local header, whatever it says. Errors: kIo.
  Result<FoundHeader> header(RecordId record);

  /// The descriptor at the start of `gap`, the bytes between the record's data and what follows; of size 0
  /// if there is none. With and without signature, with 32-bit and 64-bit sizes. Errors: kIo.
  Result<Extent> descriptor(RecordId record, std::uint16_t local_flags, Extent gap);

  Result<ByteView> view(Extent extent) { return window_.view(extent); }

 private:
  bool same_name(std::string_view local, std::uint16_t local_flags, const ZipEntry& entry) const;

  const ByteSource& source_;
  const EntryTable& table_;
  Extent central_;
  WindowReader window_;
};

}  // namespace ckpt
