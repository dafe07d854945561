// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/verify.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/crc32.h"
#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/format/state_dict_content.h"
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

/// Keys of the entries that go.
std::unordered_set<Use> dropped_steps(const Checkpoint& checkpoint) {
  std::unordered_set<Use> steps;
  for (const auto& [key, value] : checkpoint.dropped_values()) {
    if (key != kNoUse) steps.insert(key);
  }
  return steps;
}

/// Is it among `steps`, or a module or a mapping around it?
bool goes_with(const std::unordered_set<Use>& steps, const Checkpoint& checkpoint,
               const StateDictEntry& entry) {
  if (steps.empty()) return false;
  if (steps.contains(entry.key)) return true;
  auto at = entry.tensor == kNoIndex ? kNoIndex : checkpoint.tensors[entry.tensor].place;
  for (; at != kNoIndex; at = checkpoint.places[at].parent) {
    const auto& place = checkpoint.places[at];
    if (place.kind == StepKind::kItem && steps.contains(place.step)) return true;
  }
  return false;
}

/// Places around state dicts whose keys change: a module of which --root names a part has other keys then.
std::unordered_set<PlaceId> places_around_edits(const Checkpoint& checkpoint) {
  std::unordered_set<PlaceId> places;
  for (std::uint32_t dict = 0; dict < checkpoint.state_dicts.size(); ++dict) {
    const auto change = checkpoint.changes().lower_bound({dict, 0});
    const auto& entries = checkpoint.state_dicts[dict].entries;
    const bool grows = !entries.empty() && checkpoint.has_document() && entries.back().key == kNoUse;
    if (!grows && (change == checkpoint.changes().end() || change->first.first != dict)) continue;
    auto place = checkpoint.state_dicts[dict].place;
    while (place != kNoIndex && (place = checkpoint.places[place].parent) != kNoIndex) places.insert(place);
  }
  return places;
}

/// Was a mapping inside it named by --root? Then its tensors have the names that they have there.
bool lost_rows(const Checkpoint& checkpoint, std::uint32_t dict) {
  const auto& entries = checkpoint.state_dicts[dict].entries;
  return std::any_of(entries.begin(), entries.end(), [&](const StateDictEntry& entry) {
    return entry.tensor != kNoIndex && checkpoint.tensors[entry.tensor].state_dict != dict;
  });
}

/// Keys by path of their state dict, sorted.
std::map<std::string, std::vector<std::string>> planned_keys(const Checkpoint& checkpoint) {
  std::map<std::string, std::vector<std::string>> all;
  const auto dropped = dropped_steps(checkpoint);
  const auto around = places_around_edits(checkpoint);
  for (std::uint32_t dict = 0; dict < checkpoint.state_dicts.size(); ++dict) {
    if (!checkpoint.holds(dict)) continue;
    const auto place = checkpoint.state_dicts[dict].place;
    if (!checkpoint.has_new_root() && (around.contains(place) || lost_rows(checkpoint, dict))) continue;
    auto& keys = all[checkpoint.has_new_root() ? "" : checkpoint.path(place)];
    const auto& entries = checkpoint.state_dicts[dict].entries;
    for (std::uint32_t i = 0; i < entries.size(); ++i) {
      if (!checkpoint.is_dropped(dict, i) && is_read_as_key(checkpoint, dict, i) &&
          !goes_with(dropped, checkpoint, entries[i]))
        keys.push_back(checkpoint.name(dict, i));
    }
    std::sort(keys.begin(), keys.end());
  }
  return all;
}

/// The state dicts that both have agree; dropped entries and --root change which ones there are.
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

std::set<std::string> aliases(const Checkpoint& checkpoint) {
  std::set<std::string> names;
  for (const auto& [name, target] : checkpoint.metadata) names.insert(name);
  return names;
}

/// Where one side is a container of tensors alone, the file is one state dict, wherever it stands on the
/// other side; and names that only `__metadata__` leads to a tensor may be keys on the other side.
Status compare_only_state_dict(const Checkpoint& planned, const Checkpoint& read) {
  CKPT_ASSIGN_OR_RETURN(const auto expected, state_dict_content(planned));
  CKPT_ASSIGN_OR_RETURN(const auto found, state_dict_content(read));
  std::map<std::string, Dtype> wanted;
  for (const auto& row : expected.rows) wanted.emplace(row.name, planned.tensors[row.tensor].dtype);
  const auto tied = aliases(planned);
  auto left = wanted;
  for (const auto& name : aliases(read)) left.erase(name);
  for (const auto& row : found.rows) {
    const auto known = wanted.find(row.name);
    const bool same =
        known == wanted.end() ? tied.contains(row.name) : known->second == read.tensors[row.tensor].dtype;
    if (!same)
      return Error(ErrorCode::kCorrupt,
                   fmt::format("the output's tensor {} is not the planned one", quoted(row.name)));
    left.erase(row.name);
  }
  if (left.empty()) return {};
  return Error(ErrorCode::kCorrupt, fmt::format("the output has no tensor {}", quoted(left.begin()->first)));
}

}  // namespace

Status verify(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
              const std::shared_ptr<const ByteSource>& written, Progress* progress) {
  CKPT_RETURN_IF_ERROR(compare_bytes(layout, part, checkpoint, *written, progress));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(const auto read, read_checkpoint(written, diagnostics));
  const bool same_kind = holds_any_object(checkpoint.format)
                             ? holds_any_object(read.format)
                             : checkpoint.format == read.format && read.format != FormatId::kSafetensors;
  return same_kind ? compare_keys(checkpoint, read) : compare_only_state_dict(checkpoint, read);
}

}  // namespace ckpt
