// SPDX-License-Identifier: BSD-3-Clause
// The central directory of a zip archive, read as PyTorch's reader (miniz) reads it, and every way in
// which another reader could see another archive reported as a finding.
//
//   [record: local header | name | extra | data | descriptor]…  [central entries]  [zip64 end + locator] [end
//   | comment]
//
// Nothing here reads record data but `read_record`. Local headers are read when the directory is small, and
// one at a time on demand.
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
#include "ckpt/base/intent.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"
#include "ckpt/zip/entry_table.h"
#include "ckpt/zip/record_locator.h"

namespace ckpt {

class HeaderCheck;
class NameLookup;

class CKPT_EXPORT ZipDirectory {
 public:
  /// Up to this many entries, `read` looks at every local header.
  static constexpr std::size_t kFewEntries = 512;

  /// Reads the directory at the end of `source`. Findings (duplicate names, bytes no entry covers, fake end
  /// records, names that differ only in case, overlapping entries, …) go to `diagnostics`; one of severity
  /// kError says that torch and another reader see different archives.
  /// Errors: kCorrupt (no end record; truncated, with the number of missing bytes where it can be told; no
  /// records; counts or offsets that point outside), kUnsupported (split archives, masked headers, more
  /// than 2^24 records), kIo.
  /// `intent` kRewrite: begins `check_local_headers`, which will be asked for.
  static Result<ZipDirectory> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                   Intent intent = Intent::kLook);

  ZipDirectory(ZipDirectory&&) noexcept;
  ZipDirectory& operator=(ZipDirectory&&) noexcept;
  ~ZipDirectory();

  const ByteSource& source() const { return *source_; }

  const std::vector<ZipEntry>& entries() const { return table_->entries; }

  const ZipEntry& entry(RecordId record) const { return table_->entries[record]; }

  /// Name as it stands in the directory: "archive/data/0". Made anew at each call.
  std::string full_name(RecordId record) const { return table_->full_name(record); }

  /// Name below the root folder: "data/0". The full name where the record lies outside the root.
  std::string_view name(RecordId record) const { return table_->name(record); }

  /// The root folder as torch finds it: the first entry's name up to its first '/'; empty if it has none.
  std::string_view root() const { return table_->root; }

  bool has_root() const { return table_->has_root; }

  /// The record `name` below the root that torch finds: letters A-Z match in either case, and of several
  /// with that name the one that miniz hits. Quick for who asks in the order of the directory. Thread-safe.
  std::optional<RecordId> find(std::string_view name) const;

  /// Reads and checks the record's local header. Thread-safe; for many records in order use a `locator()`.
  /// Errors: kCorrupt (signature, a range outside the file or inside the central directory), kIo.
  Result<RecordLocation> locate(RecordId record) const;

  /// The same with a window of its own: neighbouring small records cost one read. Must not outlive this.
  RecordLocator locator() const { return RecordLocator(*source_, *table_, central_); }

  /// Compares every local header with its entry and looks at every hole. `read` has done so already for
  /// at most kFewEntries; a million of small records take a second. Errors: kIo.
  Status check_local_headers(Diagnostics& diagnostics) const;

  Extent central_directory() const { return central_; }

  /// Bytes behind the central directory: end records and comment.
  Extent end_records() const { return {central_.end(), source_->size() - central_.end()}; }

  bool has_zip64_end() const { return has_zip64_end_; }

  /// Offset and size of the archive comment (may be empty).
  Extent comment() const { return comment_; }

 private:
  ZipDirectory() = default;
  Status fill(Diagnostics& diagnostics, Intent intent);

  std::shared_ptr<const ByteSource> source_;
  std::unique_ptr<const EntryTable> table_;
  std::unique_ptr<const NameLookup> lookup_;
  std::unique_ptr<HeaderCheck> header_check_;  ///< begun by `read`; it uses the two before
  bool has_zip64_end_ = false;
  Extent central_;
  Extent comment_;
};

/// The record's bytes as torch reads them, inflated if need be. A CRC that differs from the one on record is
/// a finding, as torch doesn't look at it (`zip-crc-differs`, kError, since Python refuses the record);
/// a CRC of 0 means that none was computed.
/// Errors: kCorrupt (no local header, damaged deflate stream, size that differs),
/// kUnsupported (another method, encryption), kRefused (more than `limit` bytes), kIo.
CKPT_EXPORT Result<Bytes> read_record(const ZipDirectory& directory, RecordId record, std::uint64_t limit,
                                      Diagnostics& diagnostics);

/// The same for who has no use for findings: a CRC that differs is kCorrupt.
CKPT_EXPORT Result<Bytes> read_record(const ZipDirectory& directory, RecordId record, std::uint64_t limit);

/// Does a file that starts with `prefix` (4 bytes) start with a zip record, as torch.load asks?
CKPT_EXPORT bool looks_like_zip(ByteView prefix);

}  // namespace ckpt
