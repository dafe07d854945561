// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/archive_start.h"

#include <algorithm>

#include "ckpt/zip/central_reader.h"
#include "ckpt/zip/directory.h"
#include "ckpt/zip/end_records.h"
#include "ckpt/zip/records.h"

namespace ckpt {
namespace {

bool has_local_header(const ByteSource& source, std::uint64_t offset) {
  const auto bytes = source.read({offset, kLocalHeaderSize});
  return bytes.ok() && looks_like_zip(*bytes);
}

}  // namespace

std::optional<std::uint64_t> find_archive_behind_bytes(const ByteSource& source) {
  Diagnostics ignored;
  const auto end = find_end_records(source, ignored);
  if (!end.ok()) return std::nullopt;
  // Offsets that don't count what stands in front: the directory ends where the end records begin.
  for (const auto zip64_records : {std::size_t{0}, kZip64EndSize + kZip64LocatorSize}) {
    const auto end_by_offsets = end->central.end() + zip64_records;
    if (end_by_offsets >= end->end_offset) continue;
    const auto start = end->end_offset - end_by_offsets;
    if (has_local_header(source, start)) return start;
  }
  const auto table = read_central_directory(source, *end, ignored);
  if (!table.ok() || table->entries.empty()) return std::nullopt;
  const auto first = std::min_element(table->entries.begin(), table->entries.end(),
                                      [](const ZipEntry& a, const ZipEntry& b) {
                                        return a.local_header_offset < b.local_header_offset;
                                      })
                         ->local_header_offset;
  if (first == 0 || !has_local_header(source, first)) return std::nullopt;
  return first;
}

}  // namespace ckpt
