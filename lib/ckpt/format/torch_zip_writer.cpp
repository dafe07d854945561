// SPDX-License-Identifier: BSD-3-Clause
// Laying out an edited archive. A run of neighbouring records that stay neighbours is one copy, with the
// local headers, padding, descriptors and checksums it has; only the padding of its first record is made
// anew, so that the rest keeps its offset or moves by a multiple of the page size, which lets a file system
// share the blocks. That decision rests on metadata alone: the output never depends on the file system.
//
// `.format_version` promises PyTorch ≥ 2.7 that storage offsets can be computed: storages in the order of
// first use, all padded by one rule, nothing between them. A rename keeps that; anything that drops a
// storage or a use of one does not, and then the promise goes. Storages that edits added come last.
#include <algorithm>
#include <numeric>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "ckpt/base/crc32.h"
#include "ckpt/format/new_records.h"
#include "ckpt/format/torch_document.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/zip/entry_layout.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kPage = 4096;           // what reflinks can share
constexpr std::uint64_t kFourGiB = 0xFFFFFFFF;  // from here on, local headers hold their own offset
constexpr std::uint64_t kCopyChunk = 1024 * 1024;
constexpr std::uint64_t kLargeRecord = 128 * 1024;  // bytes to which a page of padding is a few per cent

/// A record of the output.
struct PlannedEntry {
  std::uint64_t header_offset = 0;
  std::uint64_t size = 0;
  std::uint64_t stored_size = 0;
  std::uint32_t crc32 = 0;
  bool kept = false;
};

class ZipWriter {
 public:
  ZipWriter(const Checkpoint& checkpoint, const TorchZipData& data, const SpelledDocument& document,
            const StorageSpelling& storages)
      : checkpoint_(checkpoint),
        data_(data),
        directory_(data.directory),
        document_(document),
        storages_(storages),
        added_(layout_, directory_.entry(data.pickle).flags & kFlagUtf8) {}

  Result<Layout> run() {
    keeps_promise_ = data_.format_version.has_value() && !document_.tensors_change && promise_holds();
    choose_records();
    CKPT_RETURN_IF_ERROR(lay_out_records());
    if (crosses_4_gib_ && keeps_promise_) {
      keeps_promise_ = false;
      choose_records();
      CKPT_RETURN_IF_ERROR(lay_out_records());
    }
    CKPT_RETURN_IF_ERROR(lay_out_directory());
    return std::move(layout_);
  }

 private:
  // ---- which records stay

  void choose_records() {
    const auto count = directory_.entries().size();
    planned_.assign(count, {});
    for (RecordId record = 0; record < count; ++record) planned_[record].kept = stays(record);
    physical_.resize(count);
    std::iota(physical_.begin(), physical_.end(), 0U);
    std::stable_sort(physical_.begin(), physical_.end(), [&](RecordId a, RecordId b) {
      return directory_.entry(a).local_header_offset < directory_.entry(b).local_header_offset;
    });
    if (document_.tensors_change) drop_dead_storages();
  }

  bool stays(RecordId record) const {
    if (record == data_.serialization_id) return false;
    const bool promise = record == data_.format_version || record == data_.storage_alignment_record;
    return !promise || keeps_promise_;
  }

  /// Does the input keep its own promise, as far as the directory tells? (A re-zipped file does not.)
  /// Storages in order of first use, from key 0 on, each where PyTorch's arithmetic would look for it.
  bool promise_holds() const {
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i < checkpoint_.storages.size(); ++i) {
      const auto& storage = checkpoint_.storages[i];
      const auto& entry = directory_.entry(storage.record);
      const auto offset = entry.local_header_offset;
      if (!entry.stored() || (i == 0 ? storage.key != "0" : offset != expected)) return false;
      const bool wide = offset >= kFourGiB || entry.size >= kFourGiB;
      auto data = offset + 30 + entry.full_name_size + 4;  // local header, name, head of the padding field
      if (wide) data += 4U + (entry.size >= kFourGiB ? 16U : 0U) + (offset >= kFourGiB ? 8U : 0U);
      data = align_to(data, data_.storage_alignment);
      expected = data + entry.size + (entry.size == 0 ? 0U : wide ? 24U : 16U);
    }
    return true;
  }

  /// Storages that the input's pickle used and the output's doesn't.
  void drop_dead_storages() {
    for (const auto& storage : checkpoint_.storages) {
      const bool of_pickle = !storage.is_added && storage.document == 0;
      if (of_pickle && !document_.refers_to(storage.key)) planned_[storage.record].kept = false;
    }
  }

  // ---- records

  Status lay_out_records() {
    layout_ = Layout();
    layout_.pool.reserve(document_.pickle.text.size() + directory_.central_directory().size + kPage);
    crosses_4_gib_ = false;
    for (std::size_t i = 0; i < physical_.size();) {
      const auto record = physical_[i];
      if (!planned_[record].kept) {
        ++i;
      } else if (record == data_.pickle) {
        CKPT_RETURN_IF_ERROR(lay_out_pickle());
        ++i;
      } else {
        CKPT_RETURN_IF_ERROR(lay_out_run(i));
      }
    }
    added_.clear();
    for (const auto& storage : checkpoint_.storages) {
      if (storage.is_added && document_.refers_to(storages_.added_keys[storage.record]))
        lay_out_added(storage);
    }
    return {};
  }

  Result<Bytes> header_bytes(const RecordLocation& location) const {
    return directory_.source().read(location.header);
  }

  Status lay_out_pickle() {
    CKPT_ASSIGN_OR_RETURN(const auto location, directory_.locate(data_.pickle));
    CKPT_ASSIGN_OR_RETURN(const auto original, header_bytes(location));
    const auto& entry = directory_.entry(data_.pickle);
    auto& planned = planned_[data_.pickle];
    const auto& pickle = document_.pickle;
    planned.header_offset = layout_.position();
    planned.size = pickle.size();
    CKPT_ASSIGN_OR_RETURN(planned.crc32, checksum());
    const DataAlignment alignment{keeps_promise_ ? data_.storage_alignment : kTorchAlignment};
    if (!entry.stored()) {
      CKPT_ASSIGN_OR_RETURN(const auto plain, document_.source->read({0, pickle.size()}));
      const auto packed = deflate(plain);
      planned.stored_size = packed.size();
      const auto spelled = respell_record(original, planned.header_offset, alignment, planned.size,
                                          planned.stored_size, planned.crc32);
      layout_.append_literal(spelled.header);
      layout_.append_literal(packed);
      layout_.append_literal(spelled.descriptor);
      return {};
    }
    planned.stored_size = planned.size;
    const auto spelled =
        respell_record(original, planned.header_offset, alignment, planned.size, planned.size, planned.crc32);
    layout_.append_literal(spelled.header);
    append_pickle(layout_, pickle);
    layout_.append_literal(spelled.descriptor);
    return {};
  }

  Result<std::uint32_t> checksum() const {
    if (document_.pickle.bodies.empty()) return crc32(0, document_.pickle.text);
    std::uint32_t sum = 0;
    Bytes buffer(kCopyChunk);
    const auto size = document_.source->size();
    for (std::uint64_t at = 0; at < size;) {
      const auto chunk = std::span(buffer).first(std::min(size - at, kCopyChunk));
      CKPT_RETURN_IF_ERROR(document_.source->read_at(at, chunk));
      sum = crc32(sum, chunk);
      at += chunk.size();
    }
    return sum;
  }

  /// Where the run that starts at physical_[first] ends (one behind its last record), before its shift is
  /// known.
  std::size_t run_end(std::size_t first) const {
    auto end = first + 1;
    while (end < physical_.size() && planned_[physical_[end]].kept && physical_[end] != data_.pickle) ++end;
    return end;
  }

  std::uint64_t header_offset(std::size_t index) const {
    return directory_.entry(physical_[index]).local_header_offset;
  }

  Status lay_out_run(std::size_t& i) {
    auto end = run_end(i);
    CKPT_ASSIGN_OR_RETURN(const auto first, directory_.locate(physical_[i]));
    CKPT_ASSIGN_OR_RETURN(const auto original, header_bytes(first));
    CKPT_ASSIGN_OR_RETURN(auto last_byte, end_of(end - 1));
    const auto step = run_step();
    const auto start = layout_.position();
    auto data_offset = first.data.offset % step;
    const auto earliest = start + smallest_local_header(original);
    if (data_offset < earliest) data_offset += align_to(earliest - data_offset, step);
    auto header = respell_local_header(original, start, data_offset);
    while (!header && data_offset < earliest + kLargestPadding) {
      header = respell_local_header(original, start, data_offset += step);
    }
    if (!header) {  // a foreign extra field leaves no room for padding: the run stands where it may
      data_offset = earliest;
      header = respell_local_header(original, start, data_offset);
    }
    if (!header)
      return Error(ErrorCode::kInternal, "a local header can't be spelled anew")
          .in_record(directory_.name(physical_[i]));
    const auto shift = data_offset - first.data.offset;  // modulo 2^64, like all that is added to it
    if (shift != 0) {
      const auto shortened = end_before_4_gib(i, end, shift);
      if (shortened != end) {
        end = shortened;
        CKPT_ASSIGN_OR_RETURN(last_byte, end_of(end - 1));
      }
    }
    layout_.append_literal(*header);
    layout_.append_copy(0, {first.data.offset, last_byte - first.data.offset});
    for (auto k = i; k < end; ++k) plan_copied(physical_[k], k == i ? start : header_offset(k) + shift);
    i = end;
    return {};
  }

  void plan_copied(RecordId record, std::uint64_t offset) {
    const auto& entry = directory_.entry(record);
    planned_[record] = {offset, entry.size, entry.stored_size, entry.crc32, true};
    if ((entry.local_header_offset >= kFourGiB) != (offset >= kFourGiB)) crosses_4_gib_ = true;
  }

  /// The end of the record's bytes: data and descriptor.
  Result<std::uint64_t> end_of(std::size_t index) const {
    CKPT_ASSIGN_OR_RETURN(const auto location, directory_.locate(physical_[index]));
    return location.whole().end();
  }

  /// A run moves by a multiple of this.
  std::uint64_t run_step() const {
    const auto promised = keeps_promise_ ? data_.storage_alignment : 1;
    const auto step = std::lcm(kPage, std::min<std::uint64_t>(promised, kPage * 8));
    return step <= kPage * 8 ? step : kPage;
  }

  static std::uint64_t align_to(std::uint64_t value, std::uint64_t step) {
    return (value + step - 1) / step * step;
  }

  /// A moved run stops in front of a record whose local header holds its own offset, before or after the
  /// move.
  std::size_t end_before_4_gib(std::size_t first, std::size_t end, std::uint64_t shift) const {
    for (auto k = first + 1; k < end; ++k) {
      if (header_offset(k) >= kFourGiB || header_offset(k) + shift >= kFourGiB) return k;
    }
    return end;
  }

  // ---- records of added storages

  /// Large ones keep their offset modulo the page size, as runs do: the kernel then moves whole pages, or
  /// shares them.
  static DataAlignment alignment_of_added(const DataRef& data) {
    const auto beyond_page = data.extent.offset % kPage;
    if (data.in_memory || data.extent.size < kLargeRecord || beyond_page % kTorchAlignment != 0) return {};
    return {kPage, beyond_page};
  }

  void lay_out_added(const Storage& storage) {
    const auto& data = checkpoint_.added_data[storage.record];
    auto name = directory_.has_root() ? std::string(directory_.root()) + '/' : std::string();
    name += "data/" + storages_.added_keys[storage.record];
    added_.append(std::move(name), data, alignment_of_added(data));
  }

  // ---- directory

  Status lay_out_directory() {
    const auto central = directory_.central_directory();
    CKPT_ASSIGN_OR_RETURN(const auto original, directory_.source().read(central));
    const auto start = layout_.position();
    std::uint64_t at = 0;
    std::uint64_t count = 0;
    for (RecordId record = 0; record < planned_.size(); ++record) {
      const auto bytes = ByteView(original).subspan(at, directory_.entry(record).central_size);
      at += bytes.size();
      const auto& planned = planned_[record];
      if (!planned.kept) continue;
      ++count;
      layout_.append_literal(respell_central_entry(bytes, planned.header_offset, planned.size,
                                                   planned.stored_size, planned.crc32));
    }
    added_.append_central_entries();
    count += added_.count();
    CKPT_ASSIGN_OR_RETURN(const auto comment, directory_.source().read(directory_.comment()));
    const Extent extent{start, layout_.position() - start};
    layout_.append_literal(spell_end_records(count, extent, directory_.has_zip64_end(), comment));
    const auto end = directory_.comment().end();
    layout_.append_copy(0, {end, directory_.source().size() - end});  // what follows belongs to no archive
    return {};
  }

  const Checkpoint& checkpoint_;
  const TorchZipData& data_;
  const ZipDirectory& directory_;
  const SpelledDocument& document_;
  const StorageSpelling& storages_;
  Layout layout_;
  std::vector<PlannedEntry> planned_;  ///< by record
  NewRecords added_;                   ///< that the input does not have
  std::vector<RecordId> physical_;     ///< records in the order in which they lie in the file
  bool keeps_promise_ = false;
  bool crosses_4_gib_ = false;
};

}  // namespace

namespace {

/// Reading a large directory spares the look at every local header; whoever copies records must take it.
Status check_records(const ZipDirectory& directory) {
  if (directory.entries().size() <= ZipDirectory::kFewEntries) return {};
  Diagnostics diagnostics;
  CKPT_RETURN_IF_ERROR(directory.check_local_headers(diagnostics));
  const auto* finding = diagnostics.first_error();
  if (finding == nullptr) return {};
  return Error(ErrorCode::kRefused, finding->message).in_record(finding->place);
}

}  // namespace

Status locate_records(Checkpoint& checkpoint, const ZipDirectory& directory) {
  CKPT_RETURN_IF_ERROR(check_records(directory));
  auto locator = directory.locator();
  for (auto& storage : checkpoint.storages) {
    if (storage.is_added || !directory.entry(storage.record).stored()) continue;
    CKPT_ASSIGN_OR_RETURN(const auto location, locator.locate(storage.record));
    storage.extent = location.data;
  }
  return {};
}

Result<Layout> lay_out_archive(const Checkpoint& checkpoint, const TorchZipData& data,
                               StorageSpelling storages) {
  storages.added_keys = keys_for_added(
      checkpoint, [&](const std::string& key) { return data.directory.find("data/" + key).has_value(); });
  CKPT_ASSIGN_OR_RETURN(const auto document, spell_document(checkpoint, storages));
  auto layout = ZipWriter(checkpoint, data, *document, storages).run();
  CKPT_RETURN_IF_ERROR(check_records(data.directory));  // last: it goes on meanwhile
  return layout;
}

Status TorchZipFormat::locate_storages(Checkpoint& checkpoint) const {
  const auto& data = static_cast<const TorchZipData&>(*checkpoint.parts.front().container);
  return locate_records(checkpoint, data.directory);
}

Result<Layout> TorchZipFormat::lay_out(const Checkpoint& checkpoint) const {
  const auto& part = checkpoint.parts.front();
  if (!checkpoint.edited()) return Layout::of_whole_file(part.source->size());
  return lay_out_archive(checkpoint, static_cast<const TorchZipData&>(*part.container), {});
}

}  // namespace ckpt
