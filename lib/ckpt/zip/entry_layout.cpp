// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/entry_layout.h"

#include <algorithm>
#include <initializer_list>

#include "ckpt/zip/records.h"

namespace ckpt {
namespace {

constexpr std::size_t kFieldHeader = 4;        // id and length of an extra field
constexpr std::size_t kLargestExtra = 0xFFFF;  // its length has 16 bits

// What miniz writes into every zip64 end record (made on Unix, version 3.0; version 4.5 needed).
constexpr std::uint16_t kMadeBy = 0x031E;
constexpr std::uint16_t kNeeded = 45;

bool needs_zip64(std::uint64_t number) {
  return number >= kSaturated32;
}

std::uint32_t saturated(std::uint64_t number) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(number, kSaturated32));
}

void append_field(Bytes& out, std::uint16_t id, ByteView data) {
  append_le(out, id);
  append_le(out, static_cast<std::uint16_t>(data.size()));
  append_bytes(out, data);
}

/// A zip64 field with these numbers, or no bytes if there are none.
Bytes zip64_field(std::initializer_list<std::uint64_t> numbers) {
  Bytes data;
  for (const auto number : numbers) append_le(data, number);
  Bytes field;
  if (!data.empty()) append_field(field, kExtraZip64, data);
  return field;
}

/// An extra field as what stands before and behind the place of the padding.
struct SplitExtra {
  Bytes before;
  Bytes behind;

  std::size_t size() const { return before.size() + behind.size(); }
};

/// Does PyTorch's habit of noting a header's own offset in its zip64 field show? The sizes come first, as
/// two numbers or none, so the offset is the first or third.
bool holds_own_offset(const LocalHeader& header, ByteView zip64) {
  const bool plausible = zip64.size() == 24 || (zip64.size() == 8 && header.size != kSaturated32 &&
                                                header.stored_size != kSaturated32);
  return plausible && needs_zip64(load_le<std::uint64_t>(zip64.data() + zip64.size() - 8));
}

/// One local header, taken apart.
struct SplitHeader {
  LocalHeader fields;
  ByteView name;
  SplitExtra extra;

  std::size_t smallest() const { return kLocalHeaderSize + name.size() + extra.size(); }
};

/// `on_zip64` gets a zip64 field and says what stands in its place.
template <typename OnZip64>
SplitExtra split_extra(ByteView extra, OnZip64 on_zip64) {
  SplitExtra split;
  bool behind = false;
  ExtraFields fields(extra);
  while (const auto field = fields.next()) {
    auto& out = behind ? split.behind : split.before;
    if (field->id == kExtraPadding) {
      behind = true;
    } else if (field->id == kExtraZip64) {
      append_bytes(out, on_zip64(*field));
    } else {
      append_bytes(out, field->whole);
    }
  }
  append_bytes(split.behind, fields.rest());  // what is no field stays last
  return split;
}

template <typename OnZip64>
SplitHeader split_header(ByteView original, OnZip64 on_zip64) {
  SplitHeader split;
  split.fields = parse_local_header(original).value_or(LocalHeader());
  split.name = original.subspan(kLocalHeaderSize, split.fields.name_size);
  const auto extra = original.subspan(kLocalHeaderSize + split.fields.name_size, split.fields.extra_size);
  split.extra = split_extra(extra, [&](const ExtraField& field) { return on_zip64(split.fields, field); });
  return split;
}

/// Puts the header together with a padding field of `padding` bytes, its own four included; 0 for none.
Bytes join(SplitHeader& header, std::size_t padding) {
  header.fields.extra_size = static_cast<std::uint16_t>(header.extra.size() + padding);
  Bytes out;
  append_local_header(out, header.fields);
  append_bytes(out, header.name);
  append_bytes(out, header.extra.before);
  if (padding != 0) append_field(out, kExtraPadding, Bytes(padding - kFieldHeader, std::byte{'Z'}));
  append_bytes(out, header.extra.behind);
  return out;
}

SplitHeader split_for_move(ByteView original, std::uint64_t header_offset) {
  return split_header(original, [&](const LocalHeader& header, const ExtraField& field) {
    Bytes moved(field.whole.begin(), field.whole.end());
    if (holds_own_offset(header, field.data)) store_le(moved.data() + moved.size() - 8, header_offset);
    return moved;
  });
}

/// The zip64 field miniz gives a local header: sizes that aren't known yet when it is written are 0.
Bytes local_zip64(const LocalHeader& header, std::uint64_t offset, std::uint64_t size,
                  std::uint64_t stored_size) {
  const bool later = (header.flags & kFlagDescriptor) != 0;
  const bool wide = needs_zip64(size) || needs_zip64(stored_size);
  if (!later) return wide ? zip64_field({size, stored_size}) : Bytes();
  if (!needs_zip64(offset)) return wide ? zip64_field({size, 0}) : Bytes();
  return wide ? zip64_field({size, 0, offset}) : zip64_field({offset});
}

/// Padding, its own four bytes included, behind a header that has `unpadded` bytes without it.
std::size_t torch_padding(std::uint64_t header_offset, std::size_t unpadded, DataAlignment alignment) {
  const auto start = header_offset + unpadded + kFieldHeader;
  const auto [step, remainder] = alignment;
  return kFieldHeader + static_cast<std::size_t>((step + remainder - start % step) % step);
}

template <typename Fields>
Bytes new_record(void (*append)(Bytes&, const Fields&), std::string_view full_name, std::uint16_t flags,
                 bool has_bytes) {
  Fields fields;
  fields.flags = static_cast<std::uint16_t>(flags | (has_bytes ? kFlagDescriptor : 0));
  fields.name_size = static_cast<std::uint16_t>(full_name.size());
  Bytes out;
  append(out, fields);
  append_text(out, full_name);
  return out;
}

}  // namespace

std::optional<Bytes> respell_local_header(ByteView original, std::uint64_t header_offset,
                                          std::uint64_t data_offset) {
  auto header = split_for_move(original, header_offset);
  if (data_offset < header_offset || data_offset - header_offset < header.smallest()) return std::nullopt;
  const auto padding = data_offset - header_offset - header.smallest();
  const bool expressible =
      padding == 0 || (padding >= kFieldHeader && header.extra.size() + padding <= kLargestExtra);
  if (!expressible) return std::nullopt;
  return join(header, static_cast<std::size_t>(padding));
}

std::uint64_t smallest_local_header(ByteView original) {
  return split_for_move(original, 0).smallest();
}

SpelledRecord respell_record(ByteView original, std::uint64_t header_offset, DataAlignment alignment,
                             std::uint64_t size, std::uint64_t stored_size, std::uint32_t crc32) {
  auto header = split_header(original, [](const LocalHeader&, const ExtraField&) { return Bytes(); });
  auto& fields = header.fields;
  const bool later = (fields.flags & kFlagDescriptor) != 0;
  auto zip64 = local_zip64(fields, header_offset, size, stored_size);
  if (header.extra.size() + zip64.size() > kLargestExtra)
    header.extra = {};  // nobody fills 64 KiB in earnest
  header.extra.before.insert(header.extra.before.begin(), zip64.begin(), zip64.end());
  const bool wide = needs_zip64(size) || needs_zip64(stored_size);
  fields.crc32 = later ? 0 : crc32;
  fields.size = later ? 0 : wide ? kSaturated32 : saturated(size);
  fields.stored_size = later ? 0 : wide ? kSaturated32 : saturated(stored_size);
  SpelledRecord record;
  const auto padding = torch_padding(header_offset, header.smallest(), alignment);
  record.header = join(header, header.extra.size() + padding <= kLargestExtra ? padding : 0);
  if (later)
    append_descriptor(record.descriptor, {crc32, stored_size, size, wide || needs_zip64(header_offset)});
  return record;
}

Bytes new_local_header(std::string_view full_name, std::uint16_t flags, bool has_bytes) {
  return new_record<LocalHeader>(append_local_header, full_name, flags, has_bytes);
}

Bytes new_central_entry(std::string_view full_name, std::uint16_t flags, bool has_bytes) {
  return new_record<CentralEntry>(append_central_entry, full_name, flags, has_bytes);
}

Bytes respell_central_entry(ByteView original, std::uint64_t local_header_offset, std::uint64_t size,
                            std::uint64_t stored_size, std::uint32_t crc32) {
  auto fields = parse_central_entry(original).value_or(CentralEntry());
  const auto name = original.subspan(kCentralEntrySize, fields.name_size);
  const auto extra = original.subspan(kCentralEntrySize + fields.name_size, fields.extra_size);
  const auto comment =
      original.subspan(kCentralEntrySize + fields.name_size + fields.extra_size, fields.comment_size);

  WideNumbers old{fields.size, fields.stored_size, fields.local_header_offset};
  widen(extra, old);
  if (old.size == size && old.stored_size == stored_size && old.local_header_offset == local_header_offset &&
      fields.crc32 == crc32) {
    return Bytes(original.begin(), original.end());
  }
  Bytes wide;
  for (const auto number : {size, stored_size, local_header_offset}) {
    if (needs_zip64(number)) append_le(wide, number);
  }
  Bytes kept;
  if (!wide.empty()) append_field(kept, kExtraZip64, wide);
  ExtraFields others(extra);
  while (const auto field = others.next()) {
    const bool fits =
        kept.size() + field->whole.size() <= kLargestExtra;  // always, in a file not made to fail
    if (field->id != kExtraZip64 && fits) append_bytes(kept, field->whole);
  }
  if (kept.size() + others.rest().size() <= kLargestExtra) append_bytes(kept, others.rest());

  fields.crc32 = crc32;
  fields.size = saturated(size);
  fields.stored_size = saturated(stored_size);
  fields.local_header_offset = saturated(local_header_offset);
  fields.extra_size = static_cast<std::uint16_t>(kept.size());
  Bytes out;
  append_central_entry(out, fields);
  for (const auto part : {name, ByteView(kept), comment}) append_bytes(out, part);
  return out;
}

Bytes spell_end_records(std::uint64_t entries, Extent central_directory, bool zip64, ByteView comment) {
  Bytes out;
  if (zip64 || entries >= kSaturated16 || needs_zip64(central_directory.size) ||
      needs_zip64(central_directory.offset)) {
    append_zip64_end(out, {.version_made_by = kMadeBy,
                           .version_needed = kNeeded,
                           .entries_on_disk = entries,
                           .entries = entries,
                           .central_size = central_directory.size,
                           .central_offset = central_directory.offset});
    append_zip64_locator(out, {.end_offset = central_directory.end(), .disks = 1});
  }
  const auto count = static_cast<std::uint16_t>(std::min<std::uint64_t>(entries, kSaturated16));
  append_end_record(out, {.entries_on_disk = count,
                          .entries = count,
                          .central_size = saturated(central_directory.size),
                          .central_offset = saturated(central_directory.offset),
                          .comment_size = static_cast<std::uint16_t>(comment.size())});
  append_bytes(out, comment);
  return out;
}

}  // namespace ckpt
