// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/end_records.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/zip/records.h"
#include "ckpt/zip/truncation.h"

namespace ckpt {
namespace {

// miniz searches in windows of 4096 bytes that overlap by 3 and gives up once 65535 + 22 bytes are behind
// it, which is after the 17th window. Python searches the last 65535 + 22 bytes.
constexpr std::uint64_t kSearchedByTorch = 4096 + 16 * (4096 - 3);
constexpr std::uint64_t kSearchedByPython = 65535 + kEndRecordSize;

// 2^24 entries take 0.8 GB of memory; the largest checkpoints known have a hundredth of that.
constexpr std::uint64_t kMaxEntries = 1 << 24;

// miniz keeps positions inside the directory in 32 bits and refuses larger ones.
constexpr std::uint64_t kMaxCentralSize = 0xFFFFFFFF;

class EndFinder {
 public:
  EndFinder(const ByteSource& source, Diagnostics& diagnostics)
      : source_(source), diagnostics_(diagnostics) {}

  Result<EndRecords> find() {
    CKPT_RETURN_IF_ERROR(read_tail());
    if (!take_last_signature()) return describe_truncation(source_, tail_);
    CKPT_RETURN_IF_ERROR(read_zip64());
    CKPT_RETURN_IF_ERROR(check_disks());
    CKPT_RETURN_IF_ERROR(check_central());
    report_moved_directory();
    report_trailing_bytes();
    report_rivals();
    return found_;
  }

 private:
  Status read_tail();
  bool take_last_signature();
  Status read_zip64();
  Status take_zip64(const Zip64Locator& locator, const Zip64End& end);
  Status check_disks() const;
  Status check_central() const;
  bool rivals(std::uint64_t offset) const;
  void report_moved_directory();
  void report_trailing_bytes();
  void report_rivals();

  void report(std::string id, Severity severity, std::string message) {
    diagnostics_.add({std::move(id), severity, {}, std::move(message), {}});
  }

  bool zip64_is_adjacent() const {
    return found_.zip64 && zip64_offset_ + kZip64EndSize + kZip64LocatorSize == found_.end_offset;
  }

  std::uint64_t tail_offset() const { return source_.size() - tail_.size(); }

  const ByteSource& source_;
  Diagnostics& diagnostics_;
  Bytes tail_;                             // the last bytes of the file
  std::vector<std::uint64_t> signatures_;  // offsets of "PK\5\6" in the tail, ascending
  EndRecord end_;
  std::uint64_t zip64_offset_ = 0;
  std::uint32_t disk_ = 0;
  std::uint32_t central_disk_ = 0;
  std::uint64_t entries_on_disk_ = 0;
  EndRecords found_;
};

Status EndFinder::read_tail() {
  const auto size = std::min(source_.size(), kSearchedByTorch);
  CKPT_ASSIGN_OR_RETURN(tail_, source_.read({source_.size() - size, size}));
  const auto text = as_text(tail_);
  for (auto at = text.find("PK\5\6"); at != text.npos; at = text.find("PK\5\6", at + 4)) {
    signatures_.push_back(tail_offset() + at);
  }
  return {};
}

bool EndFinder::take_last_signature() {
  const auto whole = [&](auto offset) { return source_.size() - offset >= kEndRecordSize; };
  const auto last = std::find_if(signatures_.rbegin(), signatures_.rend(), whole);
  if (last == signatures_.rend()) return false;
  end_ = *parse_end_record(ByteView(tail_).subspan(*last - tail_offset()));
  found_.end_offset = *last;
  found_.entries = end_.entries;
  found_.central = {end_.central_offset, end_.central_size};
  const auto behind = source_.size() - *last - kEndRecordSize;
  found_.comment = {*last + kEndRecordSize, std::min<std::uint64_t>(end_.comment_size, behind)};
  disk_ = end_.disk;
  central_disk_ = end_.central_disk;
  entries_on_disk_ = end_.entries_on_disk;
  return true;
}

/// As torch's miniz does: the locator must stand right before the end record and says where the zip64 end is.
Status EndFinder::read_zip64() {
  if (found_.end_offset < kZip64LocatorSize + kZip64EndSize) return {};
  const Extent where{found_.end_offset - kZip64LocatorSize, kZip64LocatorSize};
  CKPT_ASSIGN_OR_RETURN(const auto bytes, source_.read(where));
  const auto locator = parse_zip64_locator(bytes);
  if (!locator) return {};
  if (locator->end_offset > source_.size() - kZip64EndSize) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("zip64 locator points to byte {}, but the file has {} bytes",
                             locator->end_offset, source_.size()))
        .at(where.offset);
  }
  CKPT_ASSIGN_OR_RETURN(const auto end_bytes, source_.read({locator->end_offset, kZip64EndSize}));
  if (const auto end = parse_zip64_end(end_bytes)) return take_zip64(*locator, *end);
  report("zip-zip64-differs", Severity::kError,
         fmt::format("the zip64 locator points to byte {}, where no zip64 end record stands",
                     locator->end_offset));
  return {};
}

Status EndFinder::take_zip64(const Zip64Locator& locator, const Zip64End& end) {
  if (end.record_size < kZip64EndSize - 12) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("zip64 end record has {} bytes, at least 44 expected", end.record_size))
        .at(locator.end_offset);
  }
  if (locator.disks != 1) {
    return Error(ErrorCode::kUnsupported, fmt::format("zip archive is split over {} files", locator.disks));
  }
  const bool contradicts = (end_.entries != kSaturated16 && end_.entries != end.entries) ||
                           (end_.central_size != kSaturated32 && end_.central_size != end.central_size) ||
                           (end_.central_offset != kSaturated32 && end_.central_offset != end.central_offset);
  if (contradicts) {
    report(
        "zip-zip64-differs", Severity::kError,
        fmt::format(
            "the zip64 end record announces {} entries in {} bytes at byte {}, the end record {} in {} at {}",
            end.entries, end.central_size, end.central_offset, end_.entries, end_.central_size,
            end_.central_offset));
  }
  zip64_offset_ = locator.end_offset;
  found_.zip64 = true;
  found_.entries = end.entries;
  found_.central = {end.central_offset, end.central_size};
  disk_ = end.disk;
  central_disk_ = end.central_disk;
  entries_on_disk_ = end.entries_on_disk;
  return {};
}

/// miniz takes disk 0, and disk 1 where both numbers say so.
Status EndFinder::check_disks() const {
  const bool single = (disk_ == 0 && central_disk_ == 0) || (disk_ == 1 && central_disk_ == 1);
  if (single && entries_on_disk_ == found_.entries) return {};
  return Error(ErrorCode::kUnsupported,
               fmt::format(
                   "zip archive is split: disk {} of a set, {} of {} entries on it, directory on disk {}",
                   disk_, entries_on_disk_, found_.entries, central_disk_))
      .at(found_.end_offset);
}

Status EndFinder::check_central() const {
  const auto& central = found_.central;
  const auto corrupt = [&](std::string message) {
    return Error(ErrorCode::kCorrupt, std::move(message)).at(found_.end_offset);
  };
  if (found_.entries == 0 && central.size == 0) return corrupt("zip archive has no records");
  if (found_.entries == 0) {
    return corrupt(
        fmt::format("end record announces no records, but a central directory of {} bytes", central.size));
  }
  const auto end = checked_add(central.offset, central.size);
  const auto limit = zip64_is_adjacent() ? zip64_offset_ : found_.end_offset;
  if (!end || *end > limit) {
    return corrupt(
        fmt::format("central directory of {} bytes at byte {} reaches past its end record at byte {}",
                    central.size, central.offset, limit));
  }
  if (found_.entries > central.size / kCentralEntrySize) {
    return corrupt(fmt::format("central directory of {} bytes is too small for the {} entries announced",
                               central.size, found_.entries));
  }
  if (found_.entries > kMaxEntries || central.size > kMaxCentralSize) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("zip archive has {} records, more than the {} this program reads",
                             with_separators(found_.entries), with_separators(kMaxEntries)));
  }
  return {};
}

/// Python takes the directory to end where the end records begin and shifts all offsets; torch does not.
void EndFinder::report_moved_directory() {
  const bool adjacent = !found_.zip64 || zip64_is_adjacent();
  const auto records = found_.zip64 && adjacent ? zip64_offset_ : found_.end_offset;
  if (found_.central.end() == records && adjacent) return;
  report("zip-directory-moved", Severity::kError,
         fmt::format("the central directory ends at byte {}, {} before the end records at byte {}",
                     found_.central.end(), counted(records - found_.central.end(), "byte"), records));
}

void EndFinder::report_trailing_bytes() {
  const auto behind = source_.size() - found_.end_offset - kEndRecordSize;
  if (behind > end_.comment_size) {
    const bool seen_by_all = source_.size() - found_.end_offset <= kSearchedByPython;
    report("zip-trailing-junk", seen_by_all ? Severity::kWarning : Severity::kError,
           fmt::format("{} behind the end of the archive at byte {}",
                       counted(behind - end_.comment_size, "byte"), found_.comment.end()));
  } else if (behind < end_.comment_size) {
    report("zip-comment-cut", Severity::kWarning,
           fmt::format("the archive comment has {} bytes, but the end record announces {}", behind,
                       end_.comment_size));
  }
}

/// Could another reader take the signature at `offset` for the end record?
bool EndFinder::rivals(std::uint64_t offset) const {
  if (offset == found_.end_offset) return false;
  if (offset > found_.end_offset)
    return source_.size() - found_.end_offset > kEndRecordSize;  // Python takes the very last
  if (offset >= found_.central.end()) return true;
  const auto other = parse_end_record(ByteView(tail_).subspan(offset - tail_offset()));
  return other && offset + kEndRecordSize + other->comment_size == source_.size();
}

void EndFinder::report_rivals() {
  const auto rival =
      std::find_if(signatures_.begin(), signatures_.end(), [&](auto at) { return rivals(at); });
  if (rival == signatures_.end()) return;
  report("zip-fake-end-record", Severity::kError,
         fmt::format("a second end record stands at byte {}; the one at byte {} is used, as torch does",
                     *rival, found_.end_offset));
}

}  // namespace

Result<EndRecords> find_end_records(const ByteSource& source, Diagnostics& diagnostics) {
  return EndFinder(source, diagnostics).find();
}

}  // namespace ckpt
