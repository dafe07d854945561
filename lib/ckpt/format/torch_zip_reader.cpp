// SPDX-License-Identifier: BSD-3-Clause
// Reading: the directory, a handful of small records, the pickle. Storages stay names of records.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/crc32.h"
#include "ckpt/base/text.h"
#include "ckpt/format/torch_objects.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/pickle/decoder.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kSmallRecord = 4096;            // version, byteorder and the like: a few bytes
constexpr std::uint64_t kInflatedPickle = 1ULL << 32U;  // a deflated pickle is inflated in memory

/// What a zip is that torch.save did not write.
std::optional<std::string> other_archive(const ZipDirectory& directory) {
  auto has = [&](std::string_view name) { return directory.find(name).has_value(); };
  if (has("constants.pkl")) return "a TorchScript archive";
  if (has("data.pkl")) return std::nullopt;
  if (has("model.json")) return "a TorchScript archive of PyTorch 1.0 to 1.3";
  if (has(".data/extern_modules") || has(".data/python_version")) return "a torch.package archive";
  if (has("archive_format") || has("serialized_exported_program.json"))
    return "a torch.export archive (.pt2)";
  if (has("model.weights.h5")) return "a Keras model";
  if (has("[Content_Types].xml")) return "an office document";
  for (RecordId record = 0; record < std::min<std::size_t>(directory.entries().size(), 64); ++record) {
    const auto name = directory.full_name(record);
    if (name.ends_with(".npy")) return "a NumPy archive (.npz)";
    if (name.starts_with("META-INF/")) return "a Java archive";
  }
  return "a zip archive without data.pkl";
}

Result<std::string> read_small(const ZipDirectory& directory, RecordId record, Diagnostics& diagnostics) {
  auto bytes = read_record(directory, record, kSmallRecord, diagnostics);
  if (!bytes.ok()) return std::move(bytes).error().in_record(directory.name(record));
  return std::string(as_text(*bytes));
}

/// The file format's number. PyTorch accepts 1 to 10 and wants one of the two records.
Status check_version(const ZipDirectory& directory, Diagnostics& diagnostics) {
  auto record = directory.find(".data/version");
  if (!record) record = directory.find("version");
  if (!record)
    return Error(ErrorCode::kCorrupt, "the archive has no 'version' record, which every PyTorch asks for");
  CKPT_ASSIGN_OR_RETURN(const auto text, read_small(directory, *record, diagnostics));
  int version = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (ec != std::errc() || version < 1 || version > 10) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("file format version {} is not one of 1 to 10", quoted(text)))
        .in_record(directory.name(*record));
  }
  return {};
}

Status read_byte_order(const ZipDirectory& directory, Checkpoint& checkpoint, Diagnostics& diagnostics) {
  const auto record = directory.find("byteorder");
  if (!record) return {};
  CKPT_ASSIGN_OR_RETURN(const auto text, read_small(directory, *record, diagnostics));
  checkpoint.big_endian = text == "big";
  if (text != "big" && text != "little") {
    diagnostics.add(
        {"byteorder-unknown", Severity::kError, "byteorder",
         fmt::format(
             "the record 'byteorder' says {}: PyTorch before 2.1 ignores it, later ones refuse the file",
             quoted(text)),
         ""});
  }
  return {};
}

Status read_promises(TorchZipData& data, Diagnostics& diagnostics) {
  const auto& directory = data.directory;
  data.format_version = directory.find(".format_version");
  data.storage_alignment_record = directory.find(".storage_alignment");
  data.serialization_id = directory.find(".data/serialization_id");
  if (!data.storage_alignment_record) return {};
  CKPT_ASSIGN_OR_RETURN(auto text, read_small(directory, *data.storage_alignment_record, diagnostics));
  while (text.ends_with('\n') || text.ends_with(' ')) text.pop_back();
  std::uint64_t alignment = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), alignment);
  if (ec == std::errc() && end == text.data() + text.size() && alignment > 0) {
    data.storage_alignment = alignment;
    return {};
  }
  diagnostics.add({"storage-alignment-unreadable", Severity::kError, ".storage_alignment",
                   fmt::format("the record '.storage_alignment' says {}, which is no number: PyTorch 2.8 and "
                               "later refuse the file",
                               quoted(text)),
                   ""});
  return {};
}

/// Three eras of torch.save look different; see docs/formats/torch-zip.md.
std::string writer_era(const TorchZipData& data) {
  const auto& directory = data.directory;
  if (!directory.has_zip64_end()) return "a tool other than PyTorch";
  if (data.format_version) return "PyTorch 2.7 or later";
  if (directory.find("byteorder")) return data.serialization_id ? "PyTorch 2.1 to 2.6" : "";
  return data.serialization_id ? "" : "PyTorch 1.6 to 2.0";
}

/// A pickle that lies stored in the file is read where it lies.
Result<std::unique_ptr<Document>> read_document(const std::shared_ptr<const ByteSource>& source,
                                                const TorchZipData& data, Diagnostics& diagnostics) {
  const auto& directory = data.directory;
  const auto& entry = directory.entry(data.pickle);
  auto document = std::make_unique<Document>();
  document->name = directory.name(data.pickle);
  Extent extent{0, entry.size};
  constexpr std::uint16_t kEncrypted = 0x2061;  // encryption, patch data, strong encryption, masked headers
  if (entry.stored() && (entry.flags & kEncrypted) == 0) {
    CKPT_ASSIGN_OR_RETURN(const auto location, directory.locate(data.pickle));
    document->source = source;
    extent = location.data;
    if (!location.same_name) {
      diagnostics.add({"zip-local-name-differs", Severity::kError, document->name,
                       "the local header of the pickle has another name than the directory: Python's zipfile "
                       "refuses the file",
                       ""});
    }
  } else {
    CKPT_ASSIGN_OR_RETURN(auto bytes, read_record(directory, data.pickle, kInflatedPickle, diagnostics));
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

constexpr std::uint8_t kIdItems = 5;  // of a persistent id; a legacy stream's has one more

/// Records `data/<key>`, each a storage from its first use on.
class RecordResolver final : public StorageResolver {
 public:
  RecordResolver(const TorchZipData& data, const ValueGraph& graph, Diagnostics& diagnostics)
      : data_(data),
        graph_(graph),
        diagnostics_(diagnostics),
        storage_of_record_(data.directory.entries().size(), kNoIndex) {}

  Result<StorageId> resolve(const StorageUse& use, Checkpoint& checkpoint) override {
    CKPT_RETURN_IF_ERROR(check_id_items(graph_, use, kIdItems));
    CKPT_RETURN_IF_ERROR(spell_name(use));
    const auto record = data_.directory.find(name_);
    if (!record)
      return Error(ErrorCode::kCorrupt, fmt::format("the archive has no record {}", quoted(name_)));
    auto& storage = storage_of_record_[*record];
    if (storage == kNoIndex) {
      CKPT_ASSIGN_OR_RETURN(storage, add(use, *record, checkpoint));
    } else {
      check_again(use, checkpoint.storages[storage]);
    }
    return storage;
  }

  /// Records of storages that nothing used.
  void list_unreferenced(Checkpoint& checkpoint) const {
    const auto& directory = data_.directory;
    for (RecordId record = 0; record < storage_of_record_.size(); ++record) {
      const auto name = directory.name(record);
      if (storage_of_record_[record] != kNoIndex || !name.starts_with("data/") || name.size() == 5) continue;
      checkpoint.unreferenced_storages.emplace_back(name, directory.entry(record).size);
    }
  }

 private:
  Status spell_name(const StorageUse& use) {
    name_ = "data/";
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

  Result<StorageId> add(const StorageUse& use, RecordId record, Checkpoint& checkpoint) {
    const auto& entry = data_.directory.entry(record);
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
    storage.key = data_.directory.name(record).substr(5);
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

  void check_again(const StorageUse& use, const Storage& storage) {
    const bool same = storage.untyped == use.untyped && storage.dtype == use.dtype &&
                      use.elements * dtype_info(use.dtype).item_size == storage.bytes;
    if (same) return;
    report(
        "storage-retyped", Severity::kError,
        fmt::format("record {} is used with two element types or sizes: PyTorch before 2.15 keeps the first",
                    quoted(name_)));
  }

  /// One finding of each kind is enough: hostile files have a million.
  void report(const char* id, Severity severity, std::string message) {
    auto& findings = diagnostics_.findings();
    const bool known = std::any_of(findings.begin(), findings.end(),
                                   [&](const Finding& finding) { return finding.id == id; });
    if (!known) diagnostics_.add({id, severity, name_, std::move(message), ""});
  }

  std::uint16_t device(Use location, Checkpoint& checkpoint) {
    const auto node = graph_.resolve(location);
    if (node != last_location_) {
      last_location_ = node;
      last_device_ = checkpoint.intern_device(graph_.string(node).value_or("?"));
    }
    return last_device_;
  }

  const TorchZipData& data_;
  const ValueGraph& graph_;
  Diagnostics& diagnostics_;
  std::vector<StorageId> storage_of_record_;
  std::string name_;
  Use last_location_ = kNoUse;
  std::uint16_t last_device_ = 0;
};

}  // namespace

bool TorchZipFormat::probe(const Probe& probe) const {
  return looks_like_zip(probe.prefix);
}

Result<Checkpoint> TorchZipFormat::read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                        Intent intent) const {
  CKPT_ASSIGN_OR_RETURN(auto directory, ZipDirectory::read(source, diagnostics, intent));
  if (const auto other = other_archive(directory)) {
    return Error(ErrorCode::kUnsupported, fmt::format("this is {}, not a file of torch.save", *other));
  }
  if (!directory.has_root()) {
    return Error(ErrorCode::kCorrupt,
                 "the archive's records are not in a folder, which every PyTorch asks for");
  }
  auto data = std::make_shared<TorchZipData>(std::move(directory));
  data->pickle = *data->directory.find("data.pkl");
  CKPT_RETURN_IF_ERROR(check_version(data->directory, diagnostics));
  CKPT_RETURN_IF_ERROR(read_promises(*data, diagnostics));
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kTorchZip;
  CKPT_RETURN_IF_ERROR(read_byte_order(data->directory, checkpoint, diagnostics));
  auto document = read_document(source, *data, diagnostics);
  if (!document.ok()) return std::move(document).error().in_record("data.pkl");
  Part part{source, data, {}};
  part.documents.push_back(std::move(document).value());
  checkpoint.parts.push_back(std::move(part));
  RecordResolver resolver(*data, checkpoint.graph(), diagnostics);
  auto collected = collect_objects(checkpoint, resolver, diagnostics);
  if (!collected.ok()) return std::move(collected).error().in_record("data.pkl");
  resolver.list_unreferenced(checkpoint);
  checkpoint.writer = writer_era(*data);
  return checkpoint;
}

}  // namespace ckpt
