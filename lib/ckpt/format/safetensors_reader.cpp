// SPDX-License-Identifier: BSD-3-Clause
// Reading: the header, then the rules the reference implementation checks.
#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/safetensors.h"
#include "ckpt/format/safetensors_header.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kPrefix = 8;  // the header's length

Result<std::string> read_header(const ByteSource& source) {
  if (source.size() < kPrefix) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the file has {}, expected the 8 bytes of the header's length",
                             counted(source.size(), "byte")));
  }
  CKPT_ASSIGN_OR_RETURN(const auto prefix, source.read({0, kPrefix}));
  const auto length = load_le<std::uint64_t>(prefix.data());
  if (length > kLargestSafetensorsHeader) {
    return Error(ErrorCode::kCorrupt, fmt::format("the header's length is {}, expected at most {}", length,
                                                  kLargestSafetensorsHeader));
  }
  if (length > source.size() - kPrefix) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the header needs {} bytes but {} are left: the file is cut off", length,
                             source.size() - kPrefix));
  }
  if (length == 0) return Error(ErrorCode::kCorrupt, "the header is empty, expected a JSON object");
  std::string header(length, '\0');
  CKPT_RETURN_IF_ERROR(source.read_at(kPrefix, std::as_writable_bytes(std::span(header))));
  if (!header.starts_with('{')) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the header begins with {}, expected '{{'", quoted(header.substr(0, 1))))
        .at(kPrefix);
  }
  return header;
}

/// Equal names stand next to each other once sorted by hash; the name itself decides between equal hashes.
template <typename Name>
std::optional<std::string_view> find_duplicate(std::size_t count, Name name) {
  std::vector<std::pair<std::size_t, std::uint32_t>> hashed(count);
  for (std::uint32_t i = 0; i < count; ++i) hashed[i] = {std::hash<std::string_view>()(name(i)), i};
  std::sort(hashed.begin(), hashed.end(), [&](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : name(a.second) < name(b.second);
  });
  for (std::size_t i = 1; i < count; ++i) {
    if (hashed[i - 1].first == hashed[i].first && name(hashed[i - 1].second) == name(hashed[i].second))
      return name(hashed[i].second);
  }
  return std::nullopt;
}

Status check_names(const Checkpoint& checkpoint) {
  const auto& tensors = checkpoint.tensors;
  if (const auto twice = find_duplicate(tensors.size(), [&](std::uint32_t i) { return tensors[i].name; })) {
    return Error(ErrorCode::kCorrupt, fmt::format("tensor {} stands twice in the header", quoted(*twice)));
  }
  const auto& metadata = checkpoint.metadata;
  if (const auto twice = find_duplicate(
          metadata.size(), [&](std::uint32_t i) { return std::string_view(metadata[i].first); })) {
    return Error(ErrorCode::kCorrupt, fmt::format("{} stands twice in '__metadata__'", quoted(*twice)));
  }
  return {};
}

/// The buffer is tensors without holes or overlaps, to its last byte; then extents become those of the file.
Status place_storages(Checkpoint& checkpoint, std::uint64_t buffer, std::uint64_t buffer_size) {
  auto& storages = checkpoint.storages;
  std::vector<StorageId> order(storages.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](StorageId a, StorageId b) {
    const auto& first = storages[a].extent;
    const auto& second = storages[b].extent;
    return first.offset != second.offset ? first.offset < second.offset : first.size < second.size;
  });
  std::uint64_t expected = 0;
  std::string_view before;
  for (const auto id : order) {
    auto& storage = storages[id];
    const auto begin = storage.extent.offset;
    if (begin != expected) {
      const auto why = begin < expected ? fmt::format("it overlaps {}", quoted(before))
                                        : fmt::format("{} in front of it belong to no tensor",
                                                      counted(begin - expected, "byte"));
      return Error(ErrorCode::kCorrupt,
                   fmt::format("tensor {} begins at byte {} of the buffer, expected {}: {}",
                               quoted(storage.key), begin, expected, why));
    }
    expected = storage.extent.end();
    before = storage.key;
    storage.extent.offset = buffer + begin;
  }
  if (expected > buffer_size) {
    return Error(
        ErrorCode::kCorrupt,
        fmt::format("the tensors need {} bytes but the buffer has {}: {} missing at the end of the file",
                    expected, buffer_size, counted(expected - buffer_size, "byte")));
  }
  if (expected < buffer_size) {
    return Error(
        ErrorCode::kCorrupt,
        fmt::format("the tensors need {} bytes but the buffer has {}: {} too many at the end of the file",
                    expected, buffer_size, counted(buffer_size - expected, "byte")));
  }
  return {};
}

void add_state_dict(Checkpoint& checkpoint) {
  Mapping mapping;
  mapping.place = 0;
  mapping.tensors = static_cast<std::uint32_t>(checkpoint.tensors.size());
  checkpoint.mappings.push_back(mapping);
  if (checkpoint.tensors.empty()) return;
  StateDict dict;
  dict.place = 0;
  dict.entries.reserve(checkpoint.tensors.size());
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) dict.entries.push_back({kNoUse, kNoUse, id});
  checkpoint.state_dicts.push_back(std::move(dict));
}

}  // namespace

/// Lenient, so that a damaged file is told what is wrong with it: an opening brace behind eight bytes that
/// are a length, or at least no text.
bool SafetensorsFormat::probe(const Probe& probe) const {
  if (probe.prefix.size() <= kPrefix) return false;
  const auto length = load_le<std::uint64_t>(probe.prefix.data());
  const auto text = as_text(probe.prefix).substr(kPrefix);
  if (length <= kLargestSafetensorsHeader) {
    const auto start = text.find_first_not_of(" \t\r\n");
    return start != std::string_view::npos && text[start] == '{';
  }
  const auto head = as_text(probe.prefix).substr(0, kPrefix);
  const bool is_text = std::all_of(head.begin(), head.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return !is_text && (text.starts_with("{\"") || text.starts_with("{}"));
}

Result<Checkpoint> SafetensorsFormat::read(std::shared_ptr<const ByteSource> source,
                                           Diagnostics& /*diagnostics*/, Intent /*intent*/) const {
  auto data = std::make_shared<SafetensorsData>();
  CKPT_ASSIGN_OR_RETURN(data->header, read_header(*source));
  data->buffer = kPrefix + data->header.size();
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kSafetensors;
  checkpoint.devices = {"cpu"};
  checkpoint.places.push_back({});
  CKPT_RETURN_IF_ERROR(parse_safetensors_header(*data, checkpoint));
  CKPT_RETURN_IF_ERROR(check_names(checkpoint));
  data->metadata = checkpoint.metadata;
  CKPT_RETURN_IF_ERROR(place_storages(checkpoint, data->buffer, source->size() - data->buffer));
  add_state_dict(checkpoint);
  checkpoint.parts.push_back({std::move(source), std::move(data), {}});
  return checkpoint;
}

}  // namespace ckpt
