// SPDX-License-Identifier: BSD-3-Clause
// Records of a layout that no archive has yet, spelled as PyTorch spells them: first the records themselves,
// one behind the other or between others, later their entries in the central directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/format/layout.h"
#include "ckpt/zip/entry_layout.h"

namespace ckpt {

class NewRecords {
 public:
  /// `flags`: kFlagUtf8 if names are UTF-8. The layout outlives it.
  NewRecords(Layout& layout, std::uint16_t flags) : layout_(layout), flags_(flags) {}

  /// A whole record. `name` is the full one.
  void append(std::string name, const DataRef& data, DataAlignment alignment = {});

  /// The same for who appends the `size` bytes to the layout, between `begin` and `end`.
  void begin(std::string name, std::uint64_t size, std::optional<std::uint32_t> crc32,
             DataAlignment alignment = {});
  void end();

  void append_central_entries();

  std::uint64_t count() const { return records_.size(); }

  void clear() { records_.clear(); }

 private:
  struct Record {
    std::string name;
    std::uint64_t header_offset = 0;
    std::uint64_t size = 0;
    std::optional<std::uint32_t> crc32;
    std::size_t summed_copy = 0;  ///< segment that gives the CRC where it is not known
  };

  void append_with_crc(ByteView bytes, std::size_t at, const Record& record);

  Layout& layout_;
  std::uint16_t flags_;
  Bytes descriptor_;  ///< of the last record
  std::vector<Record> records_;
};

}  // namespace ckpt
