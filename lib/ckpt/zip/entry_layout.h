// SPDX-License-Identifier: BSD-3-Clause
// How records are spelled when an archive is written: local headers with their padding, descriptors,
// central entries and end records. Pure functions from fields to bytes; no offsets are decided here.
//
// `original` is always a whole record as it was read: a local header with name and extra field, or a central
// entry with name, extra field and comment. Its signature and lengths must have been checked.
//
// Padding is PyTorch's: an extra field "FB" of 'Z's in the local header only, so that data starts on a
// multiple of the alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ckpt/base/bytes.h"
#include "ckpt/io/extent.h"

namespace ckpt {

inline constexpr std::uint64_t kTorchAlignment = 64;  ///< bytes; default of every PyTorch writer
/// Bytes of 'Z' that one FB field can hold where the extra field has nothing else.
inline constexpr std::uint64_t kLargestPadding = 65535 - 4;

/// A local header (with name and extra field) spelled anew from an existing one at another offset: all its
/// fields stay, the FB padding is replaced so that the data starts at `data_offset`, and a zip64 field that
/// holds the header's own offset (PyTorch's habit beyond 4 GiB) gets the new one. `original` is the old
/// header with name and extra. Returns nothing if the bytes between `header_offset` and `data_offset` cannot
/// hold it: the caller moves `data_offset`. When the gap is below 4 bytes and not 0 the extra can't express
/// it: also nothing.
std::optional<Bytes> respell_local_header(ByteView original, std::uint64_t header_offset,
                                          std::uint64_t data_offset);

/// Fewest bytes `respell_local_header` needs between header and data.
std::uint64_t smallest_local_header(ByteView original);

/// Where data may start: at offsets that leave `remainder` when divided by `step`.
struct DataAlignment {
  std::uint64_t step = kTorchAlignment;  ///< bytes
  std::uint64_t remainder = 0;
};

/// A record whose content is new and known: local header (in the spelling of `original`, sizes and CRC set
/// anew: in the header, or zero there and in a descriptor behind the data if flag bit 3 is set), padded so
/// that data starts as `alignment` says.
struct SpelledRecord {
  Bytes header;
  Bytes descriptor;  ///< empty if the header has the sizes
};

SpelledRecord respell_record(ByteView original, std::uint64_t header_offset, DataAlignment alignment,
                             std::uint64_t size, std::uint64_t stored_size, std::uint32_t crc32);

/// Header and central entry of a stored record that no archive has, as PyTorch writes them: originals for
/// `respell_record` and `respell_central_entry`. `flags`: kFlagUtf8 if `full_name` is UTF-8. The sizes of a
/// record with bytes stand in a descriptor.
Bytes new_local_header(std::string_view full_name, std::uint16_t flags, bool has_bytes);
Bytes new_central_entry(std::string_view full_name, std::uint16_t flags, bool has_bytes);

/// Where the CRC-32 stands in a data descriptor and in a central entry, 4 bytes.
inline constexpr std::size_t kCrcInDescriptor = 4;
inline constexpr std::size_t kCrcInCentralEntry = 16;

/// A central entry spelled from an existing one: offset, sizes and CRC set anew, zip64 field rebuilt where
/// needed, the rest byte for byte. `original` is one whole central entry. Where nothing changes, it returns
/// the original's bytes.
Bytes respell_central_entry(ByteView original, std::uint64_t local_header_offset, std::uint64_t size,
                            std::uint64_t stored_size, std::uint32_t crc32);

/// End of the archive: zip64 end record and locator (if `zip64`, or if a number needs it), then the classic
/// end record and `comment`. Numbers of the zip64 record are miniz's: made-by 0x031E, needed 45.
Bytes spell_end_records(std::uint64_t entries, Extent central_directory, bool zip64, ByteView comment);

/// `bytes` deflated (raw stream, level 6), for a record that was deflated before it was edited.
Bytes deflate(ByteView bytes);

}  // namespace ckpt
