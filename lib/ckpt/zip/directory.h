// SPDX-License-Identifier: BSD-3-Clause
// The central directory of a zip archive, read as PyTorch's reader (miniz) reads it, and every way in
// which another reader could see another archive reported as a finding.
//
//   [record: local header | name | extra | data | descriptor]…  [central entries]  [zip64 end + locator]  [end | comment]
//
// Nothing here reads record data. Local headers are read one at a time, on demand (`locate`).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/diagnostics.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"

namespace ckpt {

using RecordId = std::uint32_t;  ///< index in the order of the central directory

/// One central directory entry (APPNOTE 4.3.12), sizes and offset already widened by zip64. 48 bytes.
struct ZipEntry {
  std::uint64_t local_header_offset = 0;
  std::uint64_t size = 0;         ///< bytes, uncompressed
  std::uint64_t stored_size = 0;  ///< bytes, as they lie in the file
  std::uint64_t name_offset = 0;  ///< into the directory's pool of names
  std::uint32_t name_size = 0;
  std::uint32_t crc32 = 0;  ///< 0 on a record with bytes means "not computed"
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated
  std::uint16_t flags = 0;
  std::uint32_t central_size = 0;  ///< bytes of this entry in the central directory

  bool stored() const { return method == 0; }
};

/// Where one record lies, from its local header.
struct RecordLocation {
  Extent header;      ///< local header with name and extra field
  Extent data;        ///< `stored_size` bytes
  Extent descriptor;  ///< data descriptor behind the data; empty if there is none
  Extent whole() const { return {header.offset, descriptor.end() - header.offset}; }
};

class CKPT_EXPORT ZipDirectory {
 public:
  /// Reads the directory at the end of `source`. Findings (duplicate names, bytes no entry covers, fake end
  /// records, names that differ only in case, overlapping entries, …) go to `diagnostics`.
  /// Errors: kCorrupt (no end record; truncated, with the number of missing bytes where it can be told;
  /// counts or offsets that point outside), kUnsupported (split archives, masked headers).
  static Result<ZipDirectory> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics);

  const ByteSource& source() const { return *source_; }
  const std::vector<ZipEntry>& entries() const { return entries_; }
  const ZipEntry& entry(RecordId record) const { return entries_[record]; }

  /// Full name as it stands in the directory: "archive/data/0".
  std::string_view full_name(RecordId record) const;
  /// Name below the root folder: "data/0". The full name where the record lies outside the root.
  std::string_view name(RecordId record) const;
  /// The root folder as torch finds it: the first entry's name up to its first '/'; empty if it has none.
  std::string_view root() const { return root_; }
  bool has_root() const { return has_root_; }

  /// The record `name` below the root, exact spelling first, then as miniz compares (ASCII case-insensitive).
  std::optional<RecordId> find(std::string_view name) const;

  /// Reads and checks the record's local header.
  /// Errors: kCorrupt (signature, a range outside the file or inside the central directory), kIo.
  Result<RecordLocation> locate(RecordId record) const;

  Extent central_directory() const { return central_; }
  /// Bytes behind the central directory: end records and comment.
  Extent end_records() const { return {central_.end(), source_->size() - central_.end()}; }
  bool has_zip64_end() const { return has_zip64_end_; }
  /// Offset and size of the archive comment (may be empty).
  Extent comment() const { return comment_; }

 private:
  ZipDirectory() = default;
  // (private parts are the implementer's)
  std::shared_ptr<const ByteSource> source_;
  std::vector<ZipEntry> entries_;
  std::string names_;
  std::string root_;
  bool has_root_ = false;
  bool has_zip64_end_ = false;
  Extent central_;
  Extent comment_;
  std::vector<RecordId> by_name_;  ///< hash index, built on the first find that the order of names doesn't answer
};

/// The record's bytes, inflated if need be, at most `limit` bytes of them.
/// Errors: kCorrupt (damaged deflate stream, size that differs, CRC that differs when one is on record),
/// kUnsupported (another method, encryption), kRefused (larger than `limit`).
CKPT_EXPORT Result<Bytes> read_record(const ZipDirectory& directory, RecordId record, std::uint64_t limit);

/// Does the first 4 bytes' signature say zip?
CKPT_EXPORT bool looks_like_zip(ByteView prefix);

}  // namespace ckpt
