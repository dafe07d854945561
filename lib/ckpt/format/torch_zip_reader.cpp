// SPDX-License-Identifier: BSD-3-Clause
// Reading: the directory, a handful of small records, the pickle. Storages stay names of records.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/old_torchscript.h"
#include "ckpt/format/torch_archive.h"
#include "ckpt/format/torch_objects.h"
#include "ckpt/format/torch_zip.h"
#include "ckpt/format/torchscript.h"

namespace ckpt {
namespace {

/// What a zip is that neither torch.save nor torch.jit.save wrote.
std::optional<std::string> other_archive(const ZipDirectory& directory) {
  auto has = [&](std::string_view name) { return directory.find(name).has_value(); };
  if (has("data.pkl")) return std::nullopt;
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

Status read_byte_order(const ZipDirectory& directory, Checkpoint& checkpoint, Diagnostics& diagnostics) {
  const auto record = directory.find("byteorder");
  if (!record) return {};
  CKPT_ASSIGN_OR_RETURN(const auto text, read_small_record(directory, *record, diagnostics));
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
  CKPT_ASSIGN_OR_RETURN(auto text, read_small_record(directory, *data.storage_alignment_record, diagnostics));
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

}  // namespace

bool TorchZipFormat::probe(const Probe& probe) const {
  return looks_like_zip(probe.prefix);
}

Result<Checkpoint> TorchZipFormat::read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                        Intent intent) const {
  CKPT_ASSIGN_OR_RETURN(auto directory, ZipDirectory::read(source, diagnostics, intent));
  const bool is_script = directory.find("constants.pkl").has_value();
  const bool is_old_script = !is_script && !directory.find("data.pkl") && directory.find("model.json");
  if (const auto other = is_script || is_old_script ? std::nullopt : other_archive(directory)) {
    return Error(ErrorCode::kUnsupported, fmt::format("this is {}, not a file of torch.save", *other));
  }
  if (!directory.has_root()) {
    return Error(ErrorCode::kCorrupt,
                 "the archive's records are not in a folder, which every PyTorch asks for");
  }
  if (is_old_script) return read_old_torchscript(std::move(source), std::move(directory), diagnostics);
  if (is_script) return read_torchscript(std::move(source), std::move(directory), diagnostics);
  auto data = std::make_shared<TorchZipData>(std::move(directory));
  data->pickle = *data->directory.find("data.pkl");
  CKPT_RETURN_IF_ERROR(check_archive_version(data->directory, diagnostics));
  CKPT_RETURN_IF_ERROR(read_promises(*data, diagnostics));
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kTorchZip;
  CKPT_RETURN_IF_ERROR(read_byte_order(data->directory, checkpoint, diagnostics));
  auto document = read_document(source, data->directory, data->pickle, diagnostics);
  if (!document.ok()) return std::move(document).error().in_record("data.pkl");
  Part part{source, data, {}};
  part.documents.push_back(std::move(document).value());
  checkpoint.parts.push_back(std::move(part));
  ArchiveStorages storages(data->directory, "data", checkpoint, 0, diagnostics);
  auto collected = collect_objects(checkpoint, storages, diagnostics);
  if (!collected.ok()) return std::move(collected).error().in_record("data.pkl");
  storages.list_unreferenced(checkpoint);
  checkpoint.writer = writer_era(*data);
  return checkpoint;
}

}  // namespace ckpt
