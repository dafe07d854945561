// SPDX-License-Identifier: BSD-3-Clause
// The records a zip archive is made of, one struct each, with the section of PKWARE's APPNOTE.TXT 6.3.x
// that defines it. Parsing checks the signature and that the fixed part is there; what the numbers mean is
// checked by the caller. `append_*` is the inverse.
//
// Sizes and offsets are as they stand in the record: 0xFFFFFFFF where a zip64 field has the real one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "ckpt/base/bytes.h"

namespace ckpt {

inline constexpr std::uint32_t kLocalHeaderSignature = 0x04034b50;   // "PK\3\4"
inline constexpr std::uint32_t kDescriptorSignature = 0x08074b50;    // "PK\7\8"
inline constexpr std::uint32_t kCentralEntrySignature = 0x02014b50;  // "PK\1\2"
inline constexpr std::uint32_t kZip64EndSignature = 0x06064b50;      // "PK\6\6"
inline constexpr std::uint32_t kZip64LocatorSignature = 0x07064b50;  // "PK\6\7"
inline constexpr std::uint32_t kEndRecordSignature = 0x06054b50;     // "PK\5\6"

inline constexpr std::size_t kLocalHeaderSize = 30;
inline constexpr std::size_t kDescriptorSize = 16;
inline constexpr std::size_t kZip64DescriptorSize = 24;
inline constexpr std::size_t kCentralEntrySize = 46;
inline constexpr std::size_t kZip64EndSize = 56;
inline constexpr std::size_t kZip64LocatorSize = 20;
inline constexpr std::size_t kEndRecordSize = 22;

inline constexpr std::uint32_t kSaturated32 = 0xFFFFFFFF;  ///< "see the zip64 field"
inline constexpr std::uint16_t kSaturated16 = 0xFFFF;

inline constexpr std::uint16_t kMethodStored = 0;
inline constexpr std::uint16_t kMethodDeflated = 8;

// General purpose flags, 4.4.4.
inline constexpr std::uint16_t kFlagEncrypted = 0x0001;
inline constexpr std::uint16_t kFlagDescriptor = 0x0008;  ///< CRC and sizes follow the data
inline constexpr std::uint16_t kFlagPatch = 0x0020;
inline constexpr std::uint16_t kFlagStrongEncryption = 0x0040;
inline constexpr std::uint16_t kFlagUtf8 = 0x0800;
inline constexpr std::uint16_t kFlagMaskedHeaders = 0x2000;
/// Flags with which miniz refuses to read a record.
inline constexpr std::uint16_t kFlagsUnreadable = kFlagEncrypted | kFlagPatch | kFlagStrongEncryption;

inline constexpr std::uint16_t kExtraZip64 = 0x0001;    ///< 4.5.3
inline constexpr std::uint16_t kExtraPadding = 0x4246;  ///< "FB": PyTorch's padding

/// 4.3.7. Name and extra field follow.
struct LocalHeader {
  std::uint16_t version_needed = 0;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint16_t time = 0;
  std::uint16_t date = 0;
  std::uint32_t crc32 = 0;
  std::uint32_t stored_size = 0;
  std::uint32_t size = 0;
  std::uint16_t name_size = 0;
  std::uint16_t extra_size = 0;

  std::size_t whole_size() const { return kLocalHeaderSize + name_size + extra_size; }
};

/// 4.3.9. With the signature, which PyTorch writes. 32-bit sizes in 16 bytes, or 64-bit sizes in 24.
struct DataDescriptor {
  std::uint32_t crc32 = 0;
  std::uint64_t stored_size = 0;
  std::uint64_t size = 0;
  bool zip64 = false;

  std::size_t whole_size() const { return zip64 ? kZip64DescriptorSize : kDescriptorSize; }
};

/// 4.3.12. Name, extra field and comment follow.
struct CentralEntry {
  std::uint16_t version_made_by = 0;
  std::uint16_t version_needed = 0;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint16_t time = 0;
  std::uint16_t date = 0;
  std::uint32_t crc32 = 0;
  std::uint32_t stored_size = 0;
  std::uint32_t size = 0;
  std::uint16_t name_size = 0;
  std::uint16_t extra_size = 0;
  std::uint16_t comment_size = 0;
  std::uint16_t disk = 0;
  std::uint16_t internal_attributes = 0;
  std::uint32_t external_attributes = 0;
  std::uint32_t local_header_offset = 0;

  std::size_t whole_size() const { return kCentralEntrySize + name_size + extra_size + comment_size; }
};

/// 4.3.14, version 1. `record_size` counts what follows it: 44, or more with an extensible data sector.
struct Zip64End {
  std::uint64_t record_size = kZip64EndSize - 12;
  std::uint16_t version_made_by = 0;
  std::uint16_t version_needed = 0;
  std::uint32_t disk = 0;
  std::uint32_t central_disk = 0;
  std::uint64_t entries_on_disk = 0;
  std::uint64_t entries = 0;
  std::uint64_t central_size = 0;
  std::uint64_t central_offset = 0;
};

/// 4.3.15.
struct Zip64Locator {
  std::uint32_t disk = 0;
  std::uint64_t end_offset = 0;  ///< where the Zip64End stands
  std::uint32_t disks = 0;
};

/// 4.3.16. The archive comment follows.
struct EndRecord {
  std::uint16_t disk = 0;
  std::uint16_t central_disk = 0;
  std::uint16_t entries_on_disk = 0;
  std::uint16_t entries = 0;
  std::uint32_t central_size = 0;
  std::uint32_t central_offset = 0;
  std::uint16_t comment_size = 0;
};

// Parsing: nothing if the signature differs or the fixed part is cut short.
std::optional<LocalHeader> parse_local_header(ByteView bytes);
std::optional<CentralEntry> parse_central_entry(ByteView bytes);
std::optional<Zip64End> parse_zip64_end(ByteView bytes);
std::optional<Zip64Locator> parse_zip64_locator(ByteView bytes);
std::optional<EndRecord> parse_end_record(ByteView bytes);
/// The caller says how wide the sizes are: nothing in the record does.
std::optional<DataDescriptor> parse_descriptor(ByteView bytes, bool zip64);

void append_local_header(Bytes& out, const LocalHeader& header);
void append_descriptor(Bytes& out, const DataDescriptor& descriptor);
void append_central_entry(Bytes& out, const CentralEntry& entry);
void append_zip64_end(Bytes& out, const Zip64End& end);
void append_zip64_locator(Bytes& out, const Zip64Locator& locator);
void append_end_record(Bytes& out, const EndRecord& end);

/// One field of an extra field, 4.5.1.
struct ExtraField {
  std::uint16_t id = 0;
  ByteView data;
  ByteView whole;  ///< with id and length
};

/// Walks the fields of an extra field. Up to 3 bytes that hold no field may be left at the end.
class ExtraFields {
 public:
  explicit ExtraFields(ByteView extra) : rest_(extra) {}

  /// The next field; nothing at the end, and where a length reaches past the end (`broken()`).
  std::optional<ExtraField> next();

  bool broken() const { return broken_; }

  ByteView rest() const { return rest_; }

 private:
  ByteView rest_;
  bool broken_ = false;
};

/// The numbers of a central entry that a zip64 field (4.5.3) may widen.
struct WideNumbers {
  std::uint64_t size = 0;
  std::uint64_t stored_size = 0;
  std::uint64_t local_header_offset = 0;
};

enum class Widening : std::uint8_t {
  kPlain,    ///< no number is saturated, or all those that are were widened
  kMissing,  ///< a saturated number has no zip64 field, or too short a one, and stays as it is
  kBroken,   ///< the extra field's lengths contradict its size
};

/// Replaces the saturated ones of `numbers` from the central entry's `extra`, as miniz does.
Widening widen(ByteView extra, WideNumbers& numbers);

}  // namespace ckpt
