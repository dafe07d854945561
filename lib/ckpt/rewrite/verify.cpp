// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/verify.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "ckpt/base/crc32.h"
#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kChunk = 1U << 20U;

Error differs(std::uint64_t offset) {
  return Error(ErrorCode::kCorrupt, fmt::format("the output reads back differently from byte {} on", offset));
}

/// Returns the CRC-32 of the bytes if `summed`, else 0.
Result<std::uint32_t> compare_copy(const ByteSource& source, Extent extent, const ByteSource& written,
                                   std::uint64_t at, bool summed, Progress* progress) {
  std::uint32_t sum = 0;
  Bytes expected(std::min(extent.size, kChunk));
  Bytes found(expected.size());
  for (std::uint64_t done = 0; done < extent.size;) {
    const auto size = std::min(extent.size - done, kChunk);
    CKPT_RETURN_IF_ERROR(source.read_at(extent.offset + done, std::span(expected).first(size)));
    CKPT_RETURN_IF_ERROR(written.read_at(at + done, std::span(found).first(size)));
    const auto [a, b] =
        std::mismatch(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(size), found.begin());
    if (b != found.begin() + static_cast<std::ptrdiff_t>(size))
      return differs(at + done + static_cast<std::uint64_t>(b - found.begin()));
    if (summed) sum = crc32(sum, ByteView(expected).first(size));
    done += size;
    if (progress != nullptr) progress->report(at + done, written.size());
  }
  return sum;
}

Status compare_bytes(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
                     const ByteSource& written, Progress* progress) {
  const auto& output = layout.parts[part];
  if (written.size() != output.size) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the output has {} bytes, expected {}", written.size(), output.size));
  }
  const MemorySource pool("layout", layout.pool);
  std::map<std::uint64_t, std::uint32_t> sums;  // by index of the segment
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < output.segments.size(); ++i) {
    const auto& segment = output.segments[i];
    const bool summed = segment.kind == Segment::Kind::kSummedCopy;
    std::uint32_t sum = 0;
    if (segment.kind == Segment::Kind::kChecksum) {
      Bytes bytes;
      append_le(bytes, sums.at(segment.offset));
      const MemorySource checksum("layout", std::move(bytes));
      CKPT_ASSIGN_OR_RETURN(sum, compare_copy(checksum, {0, segment.size}, written, at, summed, progress));
    } else {
      const ByteSource& source =
          segment.copies() ? *checkpoint.parts[segment.source].source : static_cast<const ByteSource&>(pool);
      const Extent extent{segment.offset, segment.size};
      CKPT_ASSIGN_OR_RETURN(sum, compare_copy(source, extent, written, at, summed, progress));
    }
    if (summed) sums[i] = sum;
    at += segment.size;
  }
  return {};
}

/// Values of modules that are no tensors (parameters without a shape yet) are others in a state dict.
bool is_read_as_key(const Checkpoint& checkpoint, std::uint32_t dict, std::uint32_t entry) {
  const auto& item = checkpoint.state_dicts[dict].entries[entry];
  return !checkpoint.has_new_root() || item.tensor != kNoIndex || item.name == kNoIndex;
}

/// Keys by path of their state dict, sorted.
std::map<std::string, std::vector<std::string>> planned_keys(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<std::string>> all;
  for (std::uint32_t dict = 0; dict < checkpoint.state_dicts.size(); ++dict) {
    if (!checkpoint.holds(dict)) continue;
    auto& keys = all[checkpoint.has_new_root() ? "" : checkpoint.path(checkpoint.state_dicts[dict].place)];
    for (std::uint32_t i = 0; i < checkpoint.state_dicts[dict].entries.size(); ++i) {
      if (!checkpoint.is_dropped(dict, i) && is_read_as_key(checkpoint, dict, i))
        keys.push_back(checkpoint.name(dict, i));
    }
    std::sort(keys.begin(), keys.end());
  }
  return all;
}

/// The state dicts that both have (dropped entries and --root change which ones there are) agree.
Status compare_keys(const Checkpoint& planned, const Checkpoint& read) {
  const auto expected = planned_keys(planned);
  for (const auto& [path, found] : planned_keys(read)) {
    const auto wanted = expected.find(path);
    if (wanted == expected.end() || wanted->second == found) continue;
    const auto& keys = wanted->second;  // values that became tensors are keys now
    if (planned.requires_weights_only() &&
        std::includes(found.begin(), found.end(), keys.begin(), keys.end()))
      continue;
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the output's keys at {} are not the planned ones", quoted_path(path)));
  }
  return {};
}

}  // namespace

Status verify(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
              const std::shared_ptr<const ByteSource>& written, Progress* progress) {
  CKPT_RETURN_IF_ERROR(compare_bytes(layout, part, checkpoint, *written, progress));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(const auto read, read_checkpoint(written, diagnostics));
  return compare_keys(checkpoint, read);
}

}  // namespace ckpt
