// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/truncation.h"

#include <optional>
#include <string>

#include "ckpt/base/text.h"
#include "ckpt/zip/records.h"

namespace ckpt {
namespace {

// Headers looked at while walking from the start; a writer that puts sizes there is rare.
constexpr int kMaxSteps = 64;

/// The end of the archive that a zip64 end record in the tail implies: locator and end record follow it.
std::optional<std::uint64_t> end_after_zip64(const ByteSource& source, ByteView tail) {
  const auto at = as_text(tail).rfind("PK\6\6");
  if (at == std::string_view::npos) return std::nullopt;
  const auto end = parse_zip64_end(tail.subspan(at));
  const auto offset = source.size() - tail.size() + at;
  const bool matches = !end || end->central_offset + end->central_size == offset;
  if (!matches) return std::nullopt;
  return offset + kZip64EndSize + kZip64LocatorSize + kEndRecordSize;
}

/// The same from an end record of which the last bytes are missing.
std::optional<std::uint64_t> end_after_signature(const ByteSource& source, ByteView tail) {
  const auto at = as_text(tail).rfind("PK\5\6");
  if (at == std::string_view::npos) return std::nullopt;
  return source.size() - tail.size() + at + kEndRecordSize;
}

/// The end of the first record that reaches past the file, as far as local headers have sizes.
std::optional<std::uint64_t> end_of_cut_record(const ByteSource& source) {
  std::uint64_t offset = 0;
  for (int step = 0; step < kMaxSteps && offset + kLocalHeaderSize <= source.size(); ++step) {
    const auto bytes = source.read({offset, kLocalHeaderSize});
    const auto header = bytes ? parse_local_header(*bytes) : std::nullopt;
    if (!header || (header->flags & kFlagDescriptor) != 0 || header->stored_size == kSaturated32) break;
    offset += header->whole_size() + header->stored_size;
  }
  return offset > source.size() ? std::optional(offset) : std::nullopt;
}

bool starts_with_record(const ByteSource& source) {
  if (source.size() < sizeof kLocalHeaderSignature) return false;
  const auto start = source.read({0, sizeof kLocalHeaderSignature});
  return start && load_le<std::uint32_t>(start->data()) == kLocalHeaderSignature;
}

std::string missing(const ByteSource& source, ByteView tail) {
  auto end = end_after_signature(source, tail);
  if (!end) end = end_after_zip64(source, tail);
  if (end && *end > source.size()) return counted(*end - source.size(), "byte") + " missing";
  end = end_of_cut_record(source);
  if (end) return "at least " + counted(*end - source.size(), "byte") + " missing";
  return "its central directory is missing";
}

}  // namespace

Error describe_truncation(const ByteSource& source, ByteView tail) {
  if (!starts_with_record(source)) {
    return Error(ErrorCode::kCorrupt, "not a zip archive: no end record in its last 64 KiB");
  }
  return Error(ErrorCode::kCorrupt, "zip archive is cut short: " + missing(source, tail))
      .with_hint("the download or copy was interrupted");
}

}  // namespace ckpt
