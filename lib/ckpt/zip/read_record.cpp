// SPDX-License-Identifier: BSD-3-Clause
// The bytes of one record, whole in memory.
#include <fmt/format.h>

#include "ckpt/base/crc32.h"
#include "ckpt/base/text.h"
#include "ckpt/zip/directory.h"
#include "ckpt/zip/inflate.h"
#include "ckpt/zip/records.h"

namespace ckpt {
namespace {

/// What miniz refuses before it looks at the data, and what is larger than the caller wants.
Status check_readable(const ZipEntry& entry, std::uint64_t limit) {
  if ((entry.flags & kFlagsUnreadable) != 0) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("the record is encrypted (flags 0x{:04x})", entry.flags));
  }
  if (entry.method != kMethodStored && entry.method != kMethodDeflated) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("compression method {} is not supported", entry.method));
  }
  if (std::max(entry.size, entry.stored_size) > limit) {
    return Error(ErrorCode::kRefused, fmt::format("the record has {} bytes, more than the {} allowed here",
                                                  with_separators(std::max(entry.size, entry.stored_size)),
                                                  with_separators(limit)));
  }
  return {};
}

Result<Bytes> read_bytes(const ZipDirectory& directory, RecordId record, std::uint64_t limit) {
  const auto& entry = directory.entry(record);
  CKPT_RETURN_IF_ERROR(check_readable(entry, limit));
  if (entry.stored_size == 0) return Bytes();  // miniz doesn't look for a header then
  CKPT_ASSIGN_OR_RETURN(const auto location, directory.locate(record));
  CKPT_ASSIGN_OR_RETURN(auto bytes, directory.source().read(location.data));
  if (entry.stored()) return bytes;
  return inflate(bytes, entry.size);
}

Error with_place(const ZipDirectory& directory, RecordId record, Error error) {
  return std::move(error).in_record(directory.name(record)).in_file(directory.source().name());
}

/// Nothing, or how the CRC differs.
std::string crc_fault(const ZipEntry& entry, ByteView bytes) {
  if (entry.crc32 == 0) return {};
  const auto actual = crc32(0, bytes);
  if (actual == entry.crc32) return {};
  return fmt::format("the record's CRC-32 is 0x{:08x}, the directory says 0x{:08x}", actual, entry.crc32);
}

}  // namespace

Result<Bytes> read_record(const ZipDirectory& directory, RecordId record, std::uint64_t limit,
                          Diagnostics& diagnostics) {
  auto bytes = read_bytes(directory, record, limit);
  if (!bytes) return with_place(directory, record, std::move(bytes).error());
  auto fault = crc_fault(directory.entry(record), *bytes);
  if (!fault.empty()) {
    diagnostics.add({"zip-crc-differs", Severity::kError, directory.full_name(record), std::move(fault), {}});
  }
  return bytes;
}

Result<Bytes> read_record(const ZipDirectory& directory, RecordId record, std::uint64_t limit) {
  auto bytes = read_bytes(directory, record, limit);
  if (!bytes) return with_place(directory, record, std::move(bytes).error());
  auto fault = crc_fault(directory.entry(record), *bytes);
  if (!fault.empty()) return with_place(directory, record, Error(ErrorCode::kCorrupt, std::move(fault)));
  return bytes;
}

}  // namespace ckpt
