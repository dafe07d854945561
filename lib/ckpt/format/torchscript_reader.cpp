// SPDX-License-Identifier: BSD-3-Clause
// Reading: the directory, two pickles, and of the code the files whose classes the objects have.
#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/script_modules.h"
#include "ckpt/format/torch_archive.h"
#include "ckpt/format/torch_objects.h"
#include "ckpt/format/torchscript.h"
#include "ckpt/model/anatomy.h"

namespace ckpt {
namespace {

constexpr std::uint8_t kConstants = 1;  // document of constants.pkl

/// torch.jit.load takes the bytes of storages as they are, whatever the record says.
Status check_byte_order(const ZipDirectory& directory, Diagnostics& diagnostics) {
  const auto record = directory.find("byteorder");
  if (!record) return {};
  CKPT_ASSIGN_OR_RETURN(const auto text, read_small_record(directory, *record, diagnostics));
  if (text != "big") return {};
  diagnostics.add({"torchscript-big-endian", Severity::kError, "byteorder",
                   "the file was written on a big-endian machine: torch.jit.load takes its numbers in the "
                   "order of the machine it runs on",
                   ""});
  return {};
}

Status read_documents(const std::shared_ptr<const ByteSource>& source,
                      const std::shared_ptr<TorchScriptData>& data, Checkpoint& checkpoint,
                      Diagnostics& diagnostics) {
  const auto& directory = data->directory;
  Part part{source, data, {}};
  for (const auto* name : {"data.pkl", "constants.pkl"}) {
    const auto record = directory.find(name);
    if (!record) return Error(ErrorCode::kCorrupt, fmt::format("the TorchScript archive has no '{}'", name));
    auto document = read_document(source, directory, *record, diagnostics);
    if (!document.ok()) return std::move(document).error().in_record(name);
    part.documents.push_back(std::move(document).value());
  }
  data->pickle = *directory.find("data.pkl");
  data->serialization_id = directory.find(".data/serialization_id");
  checkpoint.parts.push_back(std::move(part));
  return {};
}

/// Tensors that the code refers to by number.
Status read_constants(TorchScriptData& data, Checkpoint& checkpoint, Diagnostics& diagnostics) {
  const auto& graph = checkpoint.parts.front().documents[kConstants]->graph;
  Anatomy anatomy;
  dissect(graph, graph.root(), anatomy);
  if (anatomy.kind != ValueKind::kTuple) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("the constants are a {}, expected a tuple", value_kind_name(anatomy.kind)));
  }
  data.code.constants = anatomy.elements.size();
  const auto first = checkpoint.tensors.size();
  ArchiveStorages storages(data.directory, "constants", checkpoint, kConstants, diagnostics);
  CKPT_RETURN_IF_ERROR(collect_constants(checkpoint, storages, diagnostics));
  storages.list_unreferenced(checkpoint);
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  for (auto id = first; id < checkpoint.tensors.size(); ++id) {
    if (checkpoint.tensors[id].has(kIsPart)) continue;
    ++tensors;
    bytes += checkpoint.bytes(checkpoint.tensors[id]);
  }
  if (tensors > 0) {
    diagnostics.add(
        {"torchscript-constants", Severity::kInfo, "constants.pkl",
         fmt::format("{} ({}) {} constants of the code, as freezing and tracing make them: no state "
                     "dict has them",
                     counted(tensors, "tensor"), human_bytes(bytes), tensors == 1 ? "is" : "are"),
         ""});
  }
  return {};
}

/// The class of the root, its methods, and the files of the code.
void describe_code(const Checkpoint& checkpoint, ScriptClasses& classes, TorchScriptData& data) {
  const auto& directory = data.directory;
  auto& code = data.code;
  for (RecordId record = 0; record < directory.entries().size(); ++record) {
    const auto name = directory.name(record);
    if (name.starts_with("code/") && name.ends_with(".py"))
      code.files.emplace_back(name, directory.entry(record).size);
  }
  code.has_bytecode = directory.find("bytecode.pkl").has_value();
  const auto& graph = checkpoint.graph();
  Anatomy anatomy;
  dissect(graph, graph.root(), anatomy);
  if (anatomy.arguments.empty()) return;
  const auto name = graph.global(anatomy.arguments.front());
  if (!name) return;
  code.root_class = fmt::format("{}.{}", name->module, name->name);
  if (const auto* root = classes.find(*name)) code.methods = root->methods;
}

/// Does the code of a module with tensors not say which are buffers? PyTorch 1.4 and 1.5 wrote it so.
bool buffers_are_unlisted(const Checkpoint& checkpoint) {
  return std::any_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), [](const TensorInfo& tensor) {
    return tensor.state_dict != kNoIndex && !tensor.has(kIsParameter) && !tensor.has(kBufferByModule);
  });
}

std::string writer_era(const ZipDirectory& directory, bool unlisted_buffers) {
  if (!directory.has_zip64_end()) return "a tool other than PyTorch";
  if (directory.find("byteorder")) return "PyTorch 2.1 or later";
  return unlisted_buffers ? "PyTorch 1.4 or 1.5" : "PyTorch 1.4 to 2.0";
}

}  // namespace

const ScriptCode* script_code(const Checkpoint& checkpoint) {
  if (checkpoint.format != FormatId::kTorchScript) return nullptr;
  return &static_cast<const TorchScriptData&>(*checkpoint.parts.front().container).code;
}

Result<Checkpoint> read_torchscript(std::shared_ptr<const ByteSource> source, ZipDirectory directory,
                                    Diagnostics& diagnostics) {
  const auto data = std::make_shared<TorchScriptData>(std::move(directory));
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kTorchScript;
  CKPT_RETURN_IF_ERROR(check_archive_version(data->directory, diagnostics));
  CKPT_RETURN_IF_ERROR(check_byte_order(data->directory, diagnostics));
  CKPT_RETURN_IF_ERROR(read_documents(source, data, checkpoint, diagnostics));
  ScriptClasses classes(data->directory, diagnostics);
  ScriptModules modules(classes, diagnostics);
  ArchiveStorages storages(data->directory, "data", checkpoint, 0, diagnostics);
  auto collected = collect_objects(checkpoint, storages, diagnostics, &modules);
  if (!collected.ok()) return std::move(collected).error().in_record("data.pkl");
  storages.list_unreferenced(checkpoint);
  auto constants = read_constants(*data, checkpoint, diagnostics);
  if (!constants.ok()) return std::move(constants).error().in_record("constants.pkl");
  describe_code(checkpoint, classes, *data);
  const bool unlisted = buffers_are_unlisted(checkpoint);
  if (unlisted) {
    diagnostics.add(
        {"torchscript-buffers-unlisted", Severity::kInfo, "code",
         "the code does not say which tensors are buffers: all are counted, as PyTorch 1.4 and 1.5 "
         "do; later ones leave them out of the state dict",
         ""});
  }
  checkpoint.writer = writer_era(data->directory, unlisted);
  return checkpoint;
}

Result<Checkpoint> TorchScriptFormat::read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                                           Intent intent) const {
  CKPT_ASSIGN_OR_RETURN(auto directory, ZipDirectory::read(source, diagnostics, intent));
  return read_torchscript(std::move(source), std::move(directory), diagnostics);
}

}  // namespace ckpt
