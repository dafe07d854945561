// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/torch_archive.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/crc32.h"
#include "ckpt/base/text.h"
#include "ckpt/pickle/decoder.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kSmallRecord = 4096;            // version, byteorder and the like: a few bytes
constexpr std::uint64_t kInflatedPickle = 1ULL << 32U;  // a deflated pickle is inflated in memory
constexpr std::uint8_t kIdItems = 5;                    // of a persistent id; a legacy stream's has one more

}  // namespace

Result<std::string> read_small_record(const ZipDirectory& directory, RecordId record,
                                      Diagnostics& diagnostics) {
  auto bytes = read_record(directory, record, kSmallRecord, diagnostics);
  if (!bytes.ok()) return std::move(bytes).error().in_record(directory.name(record));
  return std::string(as_text(*bytes));
}

Status check_archive_version(const ZipDirectory& directory, Diagnostics& diagnostics) {
  auto record = directory.find(".data/version");
  if (!record) record = directory.find("version");
  if (!record)
    return Error(ErrorCode::kCorrupt, "the archive has no 'version' record, which every PyTorch asks for");
  CKPT_ASSIGN_OR_RETURN(const auto text, read_small_record(directory, *record, diagnostics));
  int version = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (ec != std::errc() || version < 1 || version > 10) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("file format version {} is not one of 1 to 10", quoted(text)))
        .in_record(directory.name(*record));
  }
  return {};
}

Result<std::unique_ptr<Document>> read_document(const std::shared_ptr<const ByteSource>& source,
                                                const ZipDirectory& directory, RecordId record,
                                                Diagnostics& diagnostics) {
  const auto& entry = directory.entry(record);
  auto document = std::make_unique<Document>();
  document->name = directory.name(record);
  Extent extent{0, entry.size};
  constexpr std::uint16_t kEncrypted = 0x2061;  // encryption, patch data, strong encryption, masked headers
  if (entry.stored() && (entry.flags & kEncrypted) == 0) {
    CKPT_ASSIGN_OR_RETURN(const auto location, directory.locate(record));
    document->source = source;
    extent = location.data;
    if (!location.same_name) {
      diagnostics.add({"zip-local-name-differs", Severity::kError, document->name,
                       "the local header of the pickle has another name than the directory: Python's zipfile "
                       "refuses the file",
                       ""});
    }
  } else {
    CKPT_ASSIGN_OR_RETURN(auto bytes, read_record(directory, record, kInflatedPickle, diagnostics));
    document->source = std::make_shared<MemorySource>(source->name(), std::move(bytes));
  }
  CKPT_ASSIGN_OR_RETURN(document->graph, decode_pickle(*document->source, extent));
  const auto& graph = document->graph;
  const bool whole_in_text = graph.outside_bodies().empty() && graph.extent().size == extent.size;
  if (entry.stored() && entry.crc32 != 0 && whole_in_text && crc32(0, graph.text()) != entry.crc32) {
    diagnostics.add(
        {"zip-crc-differs", Severity::kError, document->name,
         "the checksum of the pickle is wrong: PyTorch does not look at it, other readers refuse the file",
         ""});
  }
  if (graph.extent().size != extent.size) {
    diagnostics.add({"pickle-trailing-bytes", Severity::kWarning, document->name,
                     fmt::format("{} follow the pickle's end; no reader looks at them",
                                 counted(extent.size - graph.extent().size, "byte")),
                     ""});
  }
  return document;
}

ArchiveStorages::ArchiveStorages(const ZipDirectory& directory, std::string_view folder,
                                 const Checkpoint& checkpoint, std::uint8_t document,
                                 Diagnostics& diagnostics)
    : directory_(directory),
      folder_(std::string(folder) + '/'),
      graph_(checkpoint.parts.front().documents[document]->graph),
      document_(document),
      diagnostics_(diagnostics),
      storage_of_record_(directory.entries().size(), kNoIndex) {}

Result<StorageId> ArchiveStorages::resolve(const StorageUse& use, Checkpoint& checkpoint) {
  CKPT_RETURN_IF_ERROR(check_id_items(graph_, use, kIdItems));
  CKPT_RETURN_IF_ERROR(spell_name(use));
  const auto record = directory_.find(name_);
  if (!record) return Error(ErrorCode::kCorrupt, fmt::format("the archive has no record {}", quoted(name_)));
  auto& storage = storage_of_record_[*record];
  if (storage == kNoIndex) {
    CKPT_ASSIGN_OR_RETURN(storage, add(use, *record, checkpoint));
  } else {
    check_again(use, checkpoint.storages[storage]);
  }
  return storage;
}

void ArchiveStorages::list_unreferenced(Checkpoint& checkpoint) const {
  for (RecordId record = 0; record < storage_of_record_.size(); ++record) {
    const auto name = directory_.name(record);
    if (storage_of_record_[record] != kNoIndex || !name.starts_with(folder_) || name.size() == folder_.size())
      continue;
    checkpoint.unreferenced_storages.emplace_back(name, directory_.entry(record).size);
  }
}

Status ArchiveStorages::spell_name(const StorageUse& use) {
  name_ = folder_;
  if (const auto key = graph_.string_view(use.key)) {
    name_ += *key;
  } else if (const auto text = graph_.string(use.key)) {
    name_ += *text;
  } else if (const auto number = graph_.integer(use.key)) {
    name_ += std::to_string(*number);
  } else {
    return Error(ErrorCode::kCorrupt, "a storage key is neither a string nor a number");
  }
  return {};
}

Result<StorageId> ArchiveStorages::add(const StorageUse& use, RecordId record, Checkpoint& checkpoint) {
  const auto& entry = directory_.entry(record);
  const auto bytes = checked_multiply(use.elements, dtype_info(use.dtype).item_size);
  if (!bytes)
    return Error(ErrorCode::kCorrupt, fmt::format("storage {} has an impossible size", quoted(name_)));
  if (*bytes != entry.size) {
    if (entry.size == 0) {
      return Error(ErrorCode::kCorrupt,
                   fmt::format("record {} is empty, expected {} bytes", quoted(name_), *bytes));
    }
    report("storage-size-differs", Severity::kError,
           fmt::format("record {} has {} bytes, expected {}: PyTorch 2.10 and later refuse the file",
                       quoted(name_), entry.size, *bytes));
  }
  if (!entry.stored()) {
    report("storage-deflated", Severity::kInfo,
           fmt::format("record {} is compressed: it can't be loaded with mmap=True", quoted(name_)));
  }
  Storage storage;
  storage.key = directory_.name(record);
  if (document_ == 0) storage.key.remove_prefix(folder_.size());
  storage.document = document_;
  storage.bytes = std::min(*bytes, entry.size);
  storage.record = record;
  storage.crc32 = entry.crc32;
  storage.has_crc32 = entry.crc32 != 0;
  storage.dtype = use.dtype;
  storage.untyped = use.untyped;
  storage.device = device(use.location, checkpoint);
  checkpoint.storages.push_back(storage);
  return static_cast<StorageId>(checkpoint.storages.size() - 1);
}

void ArchiveStorages::check_again(const StorageUse& use, const Storage& storage) {
  const bool same = storage.untyped == use.untyped && storage.dtype == use.dtype &&
                    use.elements * dtype_info(use.dtype).item_size == storage.bytes;
  if (same) return;
  report("storage-retyped", Severity::kError,
         fmt::format("record {} is used with two element types or sizes: PyTorch before 2.15 keeps the first",
                     quoted(name_)));
}

/// One finding of each kind is enough: hostile files have a million.
void ArchiveStorages::report(const char* id, Severity severity, std::string message) {
  auto& findings = diagnostics_.findings();
  const bool known =
      std::any_of(findings.begin(), findings.end(), [&](const Finding& finding) { return finding.id == id; });
  if (!known) diagnostics_.add({id, severity, name_, std::move(message), ""});
}

std::uint16_t ArchiveStorages::device(Use location, Checkpoint& checkpoint) {
  const auto node = graph_.resolve(location);
  if (node != last_location_) {
    last_location_ = node;
    last_device_ = checkpoint.intern_device(graph_.string(node).value_or("?"));
  }
  return last_device_;
}

}  // namespace ckpt
