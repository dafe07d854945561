// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/records.h"

#include <array>

namespace ckpt {
namespace {

/// A cursor behind the signature, or nothing if the record isn't one of this kind or is cut short.
std::optional<ByteCursor> fields_of(ByteView bytes, std::uint32_t signature, std::size_t size) {
  if (bytes.size() < size || load_le<std::uint32_t>(bytes.data()) != signature) return std::nullopt;
  return ByteCursor(bytes.subspan(sizeof signature));
}

template <typename T>
void read_into(ByteCursor& fields, T& field) {
  field = fields.read<T>();
}

template <typename... T>
void read_all(ByteCursor fields, T&... field) {
  (read_into(fields, field), ...);
}

template <typename... T>
void append_all(Bytes& out, std::uint32_t signature, T... field) {
  std::array<std::byte, (sizeof signature + ... + sizeof(T))> bytes;
  auto* at = bytes.data();
  auto put = [&at](auto value) {
    store_le(at, value);
    at += sizeof value;
  };
  put(signature);
  (put(field), ...);
  append_bytes(out, bytes);
}

}  // namespace

std::optional<LocalHeader> parse_local_header(ByteView bytes) {
  const auto fields = fields_of(bytes, kLocalHeaderSignature, kLocalHeaderSize);
  if (!fields) return std::nullopt;
  LocalHeader h;
  read_all(*fields, h.version_needed, h.flags, h.method, h.time, h.date, h.crc32, h.stored_size, h.size,
           h.name_size, h.extra_size);
  return h;
}

void append_local_header(Bytes& out, const LocalHeader& h) {
  append_all(out, kLocalHeaderSignature, h.version_needed, h.flags, h.method, h.time, h.date, h.crc32,
             h.stored_size, h.size, h.name_size, h.extra_size);
}

std::optional<CentralEntry> parse_central_entry(ByteView bytes) {
  const auto fields = fields_of(bytes, kCentralEntrySignature, kCentralEntrySize);
  if (!fields) return std::nullopt;
  CentralEntry e;
  read_all(*fields, e.version_made_by, e.version_needed, e.flags, e.method, e.time, e.date, e.crc32,
           e.stored_size, e.size, e.name_size, e.extra_size, e.comment_size, e.disk, e.internal_attributes,
           e.external_attributes, e.local_header_offset);
  return e;
}

void append_central_entry(Bytes& out, const CentralEntry& e) {
  append_all(out, kCentralEntrySignature, e.version_made_by, e.version_needed, e.flags, e.method, e.time,
             e.date, e.crc32, e.stored_size, e.size, e.name_size, e.extra_size, e.comment_size, e.disk,
             e.internal_attributes, e.external_attributes, e.local_header_offset);
}

std::optional<DataDescriptor> parse_descriptor(ByteView bytes, bool zip64) {
  DataDescriptor d;
  d.zip64 = zip64;
  const auto fields = fields_of(bytes, kDescriptorSignature, d.whole_size());
  if (!fields) return std::nullopt;
  if (zip64) {
    read_all(*fields, d.crc32, d.stored_size, d.size);
    return d;
  }
  std::uint32_t stored_size = 0;
  std::uint32_t size = 0;
  read_all(*fields, d.crc32, stored_size, size);
  d.stored_size = stored_size;
  d.size = size;
  return d;
}

void append_descriptor(Bytes& out, const DataDescriptor& d) {
  if (d.zip64) return append_all(out, kDescriptorSignature, d.crc32, d.stored_size, d.size);
  append_all(out, kDescriptorSignature, d.crc32, static_cast<std::uint32_t>(d.stored_size),
             static_cast<std::uint32_t>(d.size));
}

std::optional<Zip64End> parse_zip64_end(ByteView bytes) {
  const auto fields = fields_of(bytes, kZip64EndSignature, kZip64EndSize);
  if (!fields) return std::nullopt;
  Zip64End e;
  read_all(*fields, e.record_size, e.version_made_by, e.version_needed, e.disk, e.central_disk,
           e.entries_on_disk, e.entries, e.central_size, e.central_offset);
  return e;
}

void append_zip64_end(Bytes& out, const Zip64End& e) {
  append_all(out, kZip64EndSignature, e.record_size, e.version_made_by, e.version_needed, e.disk,
             e.central_disk, e.entries_on_disk, e.entries, e.central_size, e.central_offset);
}

std::optional<Zip64Locator> parse_zip64_locator(ByteView bytes) {
  const auto fields = fields_of(bytes, kZip64LocatorSignature, kZip64LocatorSize);
  if (!fields) return std::nullopt;
  Zip64Locator l;
  read_all(*fields, l.disk, l.end_offset, l.disks);
  return l;
}

void append_zip64_locator(Bytes& out, const Zip64Locator& l) {
  append_all(out, kZip64LocatorSignature, l.disk, l.end_offset, l.disks);
}

std::optional<EndRecord> parse_end_record(ByteView bytes) {
  const auto fields = fields_of(bytes, kEndRecordSignature, kEndRecordSize);
  if (!fields) return std::nullopt;
  EndRecord e;
  read_all(*fields, e.disk, e.central_disk, e.entries_on_disk, e.entries, e.central_size, e.central_offset,
           e.comment_size);
  return e;
}

void append_end_record(Bytes& out, const EndRecord& e) {
  append_all(out, kEndRecordSignature, e.disk, e.central_disk, e.entries_on_disk, e.entries, e.central_size,
             e.central_offset, e.comment_size);
}

std::optional<ExtraField> ExtraFields::next() {
  if (rest_.size() < 4) return std::nullopt;
  const std::size_t size = load_le<std::uint16_t>(rest_.data() + 2);
  if (size > rest_.size() - 4) {
    broken_ = true;
    return std::nullopt;
  }
  ExtraField field{load_le<std::uint16_t>(rest_.data()), rest_.subspan(4, size), rest_.first(4 + size)};
  rest_ = rest_.subspan(4 + size);
  return field;
}

Widening widen(ByteView extra, WideNumbers& numbers) {
  bool missing = false;
  ExtraFields fields(extra);
  auto field = fields.next();
  while (field && field->id != kExtraZip64) field = fields.next();
  ByteCursor wide(field ? field->data : ByteView{});
  for (auto* number : {&numbers.size, &numbers.stored_size, &numbers.local_header_offset}) {
    if (*number != kSaturated32) continue;
    const auto value = wide.read<std::uint64_t>();
    if (wide.failed()) missing = true;
    if (!wide.failed()) *number = value;
  }
  while (fields.next()) {
  }
  if (fields.broken()) return Widening::kBroken;
  return missing ? Widening::kMissing : Widening::kPlain;
}

}  // namespace ckpt
