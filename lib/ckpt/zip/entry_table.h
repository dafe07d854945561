// SPDX-License-Identifier: BSD-3-Clause
// The entries of a central directory and their names, packed: a million of them fit into 60 MB.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

using RecordId = std::uint32_t;  ///< index in the order of the central directory

/// One central directory entry (APPNOTE 4.3.12), sizes and offset already widened by zip64. 48 bytes.
struct ZipEntry {
  std::uint64_t local_header_offset = 0;
  std::uint64_t size = 0;          ///< bytes, uncompressed
  std::uint64_t stored_size = 0;   ///< bytes, as they lie in the file
  std::uint32_t name_offset = 0;   ///< into the table's pool of names
  std::uint32_t central_size = 0;  ///< bytes of this entry in the central directory
  std::uint32_t crc32 = 0;         ///< 0 on a record with bytes means "not computed"
  std::uint16_t full_name_size = 0;
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated
  std::uint16_t flags = 0;
  bool below_root = false;  ///< the pool has the name without root and '/'

  bool stored() const { return method == 0; }
};

static_assert(sizeof(ZipEntry) == 48);

/// Filled by `read_central_directory`, never changed afterwards.
struct CKPT_EXPORT EntryTable {
  std::vector<ZipEntry> entries;
  std::string names;  ///< one behind the other, without the root's name where `below_root`
  std::string root;   ///< the first entry's name up to its first '/'
  bool has_root = false;

  /// Name below the root folder; the full name where the record lies outside.
  std::string_view name(const ZipEntry& entry) const {
    const std::size_t prefix = entry.below_root ? root.size() + 1 : 0;
    return std::string_view(names).substr(entry.name_offset, entry.full_name_size - prefix);
  }

  std::string_view name(RecordId record) const { return name(entries[record]); }

  /// Name as it stands in the central directory.
  std::string full_name(const ZipEntry& entry) const;

  std::string full_name(RecordId record) const { return full_name(entries[record]); }
};

}  // namespace ckpt
