// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/central_reader.h"

#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/zip/finding_tally.h"
#include "ckpt/zip/records.h"
#include "ckpt/zip/window_reader.h"

namespace ckpt {

std::string EntryTable::full_name(const ZipEntry& entry) const {
  std::string full;
  if (entry.below_root) full = root + "/";
  return full.append(name(entry));
}

namespace {

// Larger than any one entry: 46 + 3 * 65535 bytes.
constexpr std::size_t kWindow = 256 * 1024;

// Room is made ahead for this many entries and bytes of names; beyond, the vectors grow as entries turn out
// to exist.
constexpr std::uint64_t kReservedEntries = 4'000'000;
constexpr std::uint64_t kReservedNames = 64 * 1024 * 1024;

// Python's zipfile refuses archives that need more than version 6.3 of the format.
constexpr unsigned kNewestVersion = 63;

class CentralReader {
 public:
  CentralReader(const ByteSource& source, const EndRecords& end, Diagnostics& diagnostics)
      : source_(source), end_(end), diagnostics_(diagnostics), window_(source, kWindow) {}

  Result<EntryTable> read() {
    make_room();
    position_ = end_.central.offset;
    for (std::uint64_t i = 0; i < end_.entries; ++i) CKPT_RETURN_IF_ERROR(read_entry());
    CKPT_RETURN_IF_ERROR(check_rest());
    for (const auto* tally : {&encrypted_, &method_, &version_, &extra_}) tally->report(diagnostics_);
    return std::move(table_);
  }

 private:
  void make_room();
  Status read_entry();
  Status widen_checked(const CentralEntry& raw, ByteView name, ByteView extra, WideNumbers& numbers);
  bool plausible(const CentralEntry& raw, const WideNumbers& numbers) const;
  bool on_this_disk(const CentralEntry& raw) const;
  static bool sizes_agree(const CentralEntry& raw, const WideNumbers& numbers);
  bool lies_inside(const WideNumbers& numbers) const;
  Error fault(const CentralEntry& raw, const WideNumbers& numbers, ByteView name) const;
  void add(const CentralEntry& raw, const WideNumbers& numbers, std::string_view full_name);
  void count_oddities(const CentralEntry& raw, ByteView name);
  void add_name(ZipEntry& entry, std::string_view full_name);
  Error no_entry() const;
  Status check_rest();

  Error corrupt(ByteView name, std::string message) const {
    return Error(ErrorCode::kCorrupt, quoted(as_text(name)) + " " + std::move(message)).at(position_);
  }

  const ByteSource& source_;
  const EndRecords& end_;
  Diagnostics& diagnostics_;
  WindowReader window_;
  std::uint64_t position_ = 0;  // of the entry being read
  EntryTable table_;
  FindingTally encrypted_{"zip-encrypted-flag", Severity::kError};
  FindingTally method_{"zip-unsupported-method", Severity::kError};
  FindingTally version_{"zip-version-needed", Severity::kError};
  FindingTally extra_{"zip-extra-field", Severity::kError};
};

void CentralReader::make_room() {
  table_.entries.reserve(std::min(end_.entries, kReservedEntries));
  table_.names.reserve(std::min(end_.central.size - end_.entries * kCentralEntrySize, kReservedNames));
}

Status CentralReader::read_entry() {
  const auto left = end_.central.end() - position_;
  const Extent fixed{position_, kCentralEntrySize};
  if (left < fixed.size) return no_entry();
  if (!window_.holds(fixed)) CKPT_RETURN_IF_ERROR(window_.load(fixed));
  const auto raw = parse_central_entry(window_.held(fixed));
  if (!raw) return no_entry();
  const Extent whole{position_, raw->whole_size()};
  if (whole.size > left) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("central directory entry has {} bytes, but {} are left of it", whole.size, left))
        .at(position_);
  }
  if (!window_.holds(whole)) CKPT_RETURN_IF_ERROR(window_.load(whole));
  const auto bytes = window_.held(whole);
  const auto name = bytes.subspan(kCentralEntrySize, raw->name_size);
  const auto extra = bytes.subspan(kCentralEntrySize + raw->name_size, raw->extra_size);

  WideNumbers numbers{raw->size, raw->stored_size, raw->local_header_offset};
  if (!extra.empty()) CKPT_RETURN_IF_ERROR(widen_checked(*raw, name, extra, numbers));
  if (!plausible(*raw, numbers)) return fault(*raw, numbers, name);
  count_oddities(*raw, name);
  add(*raw, numbers, as_text(name));
  position_ += whole.size;
  return {};
}

void CentralReader::add(const CentralEntry& raw, const WideNumbers& numbers, std::string_view full_name) {
  auto& entry = table_.entries.emplace_back();
  entry.local_header_offset = numbers.local_header_offset;
  entry.size = numbers.size;
  entry.stored_size = numbers.stored_size;
  entry.central_size = static_cast<std::uint32_t>(raw.whole_size());
  entry.crc32 = raw.crc32;
  entry.full_name_size = raw.name_size;
  entry.method = raw.method;
  entry.flags = raw.flags;
  add_name(entry, full_name);
}

/// A field that matters and is broken is an error, as in torch; one that only Python looks at is a finding.
Status CentralReader::widen_checked(const CentralEntry& raw, ByteView name, ByteView extra,
                                    WideNumbers& numbers) {
  const bool saturated = std::max({raw.size, raw.stored_size, raw.local_header_offset}) == kSaturated32;
  const auto outcome = widen(extra, numbers);
  if (outcome == Widening::kPlain) return {};
  if (saturated && outcome == Widening::kBroken)
    return corrupt(name, "has an extra field with a wrong length");
  extra_.count([&] {
    const auto* fault = outcome == Widening::kBroken ? "an extra field is longer than the space it has"
                                                     : "the zip64 field lacks a number";
    return std::tuple(std::string(as_text(name)), std::string(fault));
  });
  return {};
}

/// What miniz asks of an entry before it opens the archive.
bool CentralReader::plausible(const CentralEntry& raw, const WideNumbers& numbers) const {
  return (raw.flags & kFlagMaskedHeaders) == 0 && on_this_disk(raw) && sizes_agree(raw, numbers) &&
         lies_inside(numbers);
}

bool CentralReader::on_this_disk(const CentralEntry& raw) const {
  return raw.disk != kSaturated16 && (raw.disk == end_.disk || raw.disk == 1);
}

bool CentralReader::sizes_agree(const CentralEntry& raw, const WideNumbers& numbers) {
  if (raw.method == kMethodStored) return numbers.size == numbers.stored_size;
  return numbers.size == 0 || numbers.stored_size != 0;
}

/// A size that no zip64 field widened is let through, as in miniz; the record can't be read.
bool CentralReader::lies_inside(const WideNumbers& numbers) const {
  const auto room = source_.size();
  if (numbers.local_header_offset > room || room - numbers.local_header_offset < kLocalHeaderSize)
    return false;
  const auto left = room - numbers.local_header_offset - kLocalHeaderSize;
  return numbers.stored_size <= left || numbers.stored_size == kSaturated32;
}

Error CentralReader::fault(const CentralEntry& raw, const WideNumbers& numbers, ByteView name) const {
  const auto unsupported = [&](std::string message) {
    return Error(ErrorCode::kUnsupported, quoted(as_text(name)) + " " + std::move(message)).at(position_);
  };
  if ((raw.flags & kFlagMaskedHeaders) != 0)
    return unsupported("hides its headers (flag 0x2000), which torch refuses");
  if (!on_this_disk(raw)) return unsupported(fmt::format("lies on disk {} of a split archive", raw.disk));
  if (!sizes_agree(raw, numbers)) {
    return corrupt(name, fmt::format("is {}, but its sizes are {} and {} bytes",
                                     raw.method == kMethodStored ? "stored" : "compressed", numbers.size,
                                     numbers.stored_size));
  }
  return corrupt(name, fmt::format("needs {} bytes at byte {}, but the file has {}", numbers.stored_size,
                                   numbers.local_header_offset, source_.size()));
}

void CentralReader::count_oddities(const CentralEntry& raw, ByteView name) {
  const auto place = [&] { return std::string(as_text(name)); };
  if ((raw.flags & kFlagsUnreadable) != 0) {
    encrypted_.count([&] {
      return std::tuple(
          place(), fmt::format("flags 0x{:04x} say that the record is encrypted or a patch; torch refuses to "
                               "read it",
                               raw.flags));
    });
  }
  if (raw.method != kMethodStored && raw.method != kMethodDeflated) {
    method_.count([&] {
      return std::tuple(place(),
                        fmt::format("compression method {} is not one that torch reads", raw.method));
    });
  }
  if ((raw.version_needed & 0xFFu) > kNewestVersion) {
    version_.count([&] {
      return std::tuple(
          place(),
          fmt::format("the record asks for version {} of the zip format; Python refuses the archive, "
                      "torch does not look",
                      raw.version_needed & 0xFFu));
    });
  }
}

void CentralReader::add_name(ZipEntry& entry, std::string_view full_name) {
  if (table_.entries.size() == 1) {
    const auto slash = full_name.find('/');
    table_.has_root = slash != full_name.npos;
    if (table_.has_root) table_.root = full_name.substr(0, slash);
  }
  const auto& root = table_.root;
  entry.below_root = table_.has_root && full_name.size() > root.size() && full_name[root.size()] == '/' &&
                     full_name.substr(0, root.size()) == root;
  if (entry.below_root) full_name.remove_prefix(root.size() + 1);
  entry.name_offset = static_cast<std::uint32_t>(table_.names.size());  // the directory is below 4 GiB
  table_.names.append(full_name);
}

Error CentralReader::no_entry() const {
  auto message = fmt::format("no entry where number {} of {} of the central directory should be",
                             table_.entries.size() + 1, end_.entries);
  const auto records_start = end_.end_offset - (end_.zip64 ? kZip64EndSize + kZip64LocatorSize : 0);
  Error error(ErrorCode::kCorrupt, std::move(message));
  if (table_.entries.empty() && records_start > end_.central.end()) {
    return std::move(error).at(position_).with_hint(fmt::format(
        "{} bytes seem to stand before the archive: cut them off, or extract the file they belong to",
        records_start - end_.central.end()));
  }
  return std::move(error).at(position_);
}

/// torch reads as many entries as announced; Python reads to the end of the directory.
Status CentralReader::check_rest() {
  const auto left = end_.central.end() - position_;
  if (left == 0) return {};
  CKPT_ASSIGN_OR_RETURN(const auto bytes,
                        window_.view({position_, std::min<std::uint64_t>(left, kCentralEntrySize)}));
  diagnostics_.add({"zip-entry-count-differs",
                    Severity::kError,
                    {},
                    fmt::format("{} {} behind the {} the end record announces", counted(left, "byte"),
                                parse_central_entry(bytes) ? "with more entries lie in the central directory"
                                                           : "without an entry lie in the central directory",
                                counted(end_.entries, "entry")),
                    {}});
  return {};
}

}  // namespace

Result<EntryTable> read_central_directory(const ByteSource& source, const EndRecords& end,
                                          Diagnostics& diagnostics) {
  return CentralReader(source, end, diagnostics).read();
}

}  // namespace ckpt
