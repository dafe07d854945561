// SPDX-License-Identifier: BSD-3-Clause
// What an output will be, byte for byte, before anything is written: files made of segments in order. A
// layout is decided from metadata alone; `rewrite/execute` is the only one that moves bytes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/io/extent.h"
#include "ckpt/model/data_ref.h"

namespace ckpt {

/// 24 bytes; literals live in the layout's pool.
struct Segment {
  enum class Kind : std::uint32_t {
    kLiteral,     ///< bytes of the pool
    kCopy,        ///< bytes of a source, moved by the kernel
    kSummedCopy,  ///< the same, and read once for their CRC-32
    kChecksum,    ///< CRC-32, little-endian, of a kSummedCopy before it in the same part
  };
  Kind kind = Kind::kLiteral;
  std::uint32_t source = 0;  ///< copies: part of the checkpoint
  std::uint64_t offset = 0;  ///< in the pool, or in the part; kChecksum: index of the summed segment
  std::uint64_t size = 0;    ///< bytes

  bool copies() const { return kind == Kind::kCopy || kind == Kind::kSummedCopy; }
};

/// One file of the output.
struct OutputPart {
  std::string name;  ///< of the member in a directory; empty for a single file
  std::vector<Segment> segments;
  std::uint64_t size = 0;  ///< bytes
};

/// How many bytes come from where.
struct LayoutTotals {
  std::uint64_t literal = 0;
  std::uint64_t copied = 0;
};

class Layout {
 public:
  static constexpr std::uint64_t kChecksumSize = 4;

  std::vector<OutputPart> parts{1};
  Bytes pool;

  /// The one part of the checkpoint as it is: what an unedited file is written as.
  static Layout of_whole_file(std::uint64_t size) {
    Layout layout;
    layout.append_copy(0, {0, size});
    return layout;
  }

  /// Appends to the last part. Neighbours that can be one segment are.
  void append_literal(ByteView bytes) {
    if (bytes.empty()) return;
    auto& part = parts.back();
    const auto at = pool.size();
    append_bytes(pool, bytes);
    part.size += bytes.size();
    if (!part.segments.empty() && part.segments.back().kind == Segment::Kind::kLiteral) {
      part.segments.back().size += bytes.size();
    } else {
      part.segments.push_back({Segment::Kind::kLiteral, 0, at, bytes.size()});
    }
  }

  void append_copy(std::uint32_t source, Extent extent) {
    if (extent.size == 0) return;
    auto& part = parts.back();
    part.size += extent.size;
    if (!part.segments.empty()) {
      auto& last = part.segments.back();
      if (last.kind == Segment::Kind::kCopy && last.source == source &&
          last.offset + last.size == extent.offset) {
        last.size += extent.size;
        return;
      }
    }
    part.segments.push_back({Segment::Kind::kCopy, source, extent.offset, extent.size});
  }

  /// The bytes of a storage that an edit added.
  void append_data(const DataRef& data) {
    if (data.in_memory) {
      append_literal(*data.in_memory);
    } else {
      append_copy(data.part, data.extent);
    }
  }

  /// A copy whose CRC-32 is not known yet. Returns what `append_checksum` wants.
  std::size_t append_summed_copy(std::uint32_t source, Extent extent) {
    auto& part = parts.back();
    part.size += extent.size;
    part.segments.push_back({Segment::Kind::kSummedCopy, source, extent.offset, extent.size});
    return part.segments.size() - 1;
  }

  void append_checksum(std::size_t summed_copy) {
    auto& part = parts.back();
    part.size += kChecksumSize;
    part.segments.push_back({Segment::Kind::kChecksum, 0, summed_copy, kChecksumSize});
  }

  std::uint64_t position() const { return parts.back().size; }

  LayoutTotals totals() const {
    LayoutTotals totals;
    for (const auto& part : parts) {
      for (const auto& segment : part.segments) {
        (segment.copies() ? totals.copied : totals.literal) += segment.size;
      }
    }
    return totals;
  }
};

}  // namespace ckpt
