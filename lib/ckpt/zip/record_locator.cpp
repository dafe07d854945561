// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/record_locator.h"

#include <algorithm>

#include <fmt/format.h>

namespace ckpt {
namespace {

constexpr std::size_t kWindow = 64 * 1024;

bool matches(const DataDescriptor& descriptor, const ZipEntry& entry) {
  return descriptor.stored_size == entry.stored_size && descriptor.size == entry.size;
}

/// A descriptor without signature (4.3.9.3) is believed only if all its numbers are right.
std::size_t unsigned_descriptor(ByteView bytes, const ZipEntry& entry) {
  for (const bool zip64 : {true, false}) {
    Bytes expected;
    append_descriptor(expected, {entry.crc32, entry.stored_size, entry.size, zip64});
    const auto fields = ByteView(expected).subspan(sizeof kDescriptorSignature);
    if (bytes.size() >= fields.size() && std::ranges::equal(bytes.first(fields.size()), fields))
      return fields.size();
  }
  return 0;
}

std::size_t descriptor_size(ByteView bytes, const ZipEntry& entry) {
  const auto wide = parse_descriptor(bytes, true);
  if (wide && matches(*wide, entry)) return kZip64DescriptorSize;
  if (parse_descriptor(bytes, false)) return kDescriptorSize;
  return unsigned_descriptor(bytes, entry);
}

}  // namespace

RecordLocator::RecordLocator(const ByteSource& source, const EntryTable& table, Extent central)
    : source_(source), table_(table), central_(central), window_(source, kWindow) {}

/// As Python compares, which decodes both names first, each by its own flag.
bool RecordLocator::same_name(std::string_view local, std::uint16_t local_flags,
                              const ZipEntry& entry) const {
  if (local.size() != entry.full_name_size) return false;
  if (entry.below_root) {
    const auto& root = table_.root;
    if (!local.starts_with(root) || local[root.size()] != '/') return false;
    local.remove_prefix(root.size() + 1);
  }
  if (local != table_.name(entry)) return false;
  if (((local_flags ^ entry.flags) & kFlagUtf8) == 0) return true;
  return std::all_of(local.begin(), local.end(), [](char c) { return (c & 0x80) == 0; });
}

Result<FoundHeader> RecordLocator::header(RecordId record) {
  const auto& entry = table_.entries[record];
  FoundHeader found;
  found.whole = {entry.local_header_offset, kLocalHeaderSize};
  const auto size = source_.size();
  if (entry.local_header_offset > size || size - entry.local_header_offset < kLocalHeaderSize) return found;
  CKPT_ASSIGN_OR_RETURN(const auto fixed, window_.view(found.whole));
  const auto fields = parse_local_header(fixed);
  if (!fields || size - entry.local_header_offset < fields->whole_size()) return found;
  found.valid = true;
  found.fields = *fields;
  found.whole.size = fields->whole_size();
  CKPT_ASSIGN_OR_RETURN(const auto named,
                        window_.view({found.whole.offset, kLocalHeaderSize + fields->name_size}));
  found.same_name = same_name(as_text(named.subspan(kLocalHeaderSize)), fields->flags, entry);
  return found;
}

Result<Extent> RecordLocator::descriptor(RecordId record, std::uint16_t local_flags, Extent gap) {
  const auto& entry = table_.entries[record];
  const Extent none{gap.offset, 0};
  if (((local_flags | entry.flags) & kFlagDescriptor) == 0) return none;
  const auto readable = std::min<std::uint64_t>(gap.size, kZip64DescriptorSize);
  if (readable < kDescriptorSize - sizeof kDescriptorSignature) return none;
  CKPT_ASSIGN_OR_RETURN(const auto bytes, window_.view({gap.offset, readable}));
  return Extent{gap.offset, descriptor_size(bytes, entry)};
}

Result<RecordLocation> RecordLocator::locate(RecordId record) {
  const auto& entry = table_.entries[record];
  const auto corrupt = [&](std::string message) {
    return Error(ErrorCode::kCorrupt, std::move(message))
        .in_file(source_.name())
        .in_record(table_.name(entry));
  };
  CKPT_ASSIGN_OR_RETURN(const auto found, header(record));
  if (!found.valid) {
    return corrupt(fmt::format("no local header at byte {} of the archive", entry.local_header_offset));
  }
  RecordLocation location;
  location.header = found.whole;
  location.data = {found.whole.end(), entry.stored_size};
  location.same_name = found.same_name;
  if (location.header.offset >= central_.offset && location.header.offset < central_.end()) {
    return corrupt(
        fmt::format("local header at byte {} lies inside the central directory", location.header.offset));
  }
  const bool before = location.header.offset < central_.offset;
  const auto limit = before ? central_.offset : source_.size();
  if (location.data.offset > limit || entry.stored_size > limit - location.data.offset) {
    return corrupt(fmt::format("{} bytes at byte {} reach past {} at byte {}", entry.stored_size,
                               location.data.offset,
                               before ? "the start of the central directory" : "the end of the file", limit));
  }
  const Extent gap{location.data.end(), limit - location.data.end()};
  CKPT_ASSIGN_OR_RETURN(location.descriptor, descriptor(record, found.fields.flags, gap));
  return location;
}

}  // namespace ckpt
