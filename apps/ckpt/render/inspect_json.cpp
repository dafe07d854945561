// SPDX-License-Identifier: BSD-3-Clause
#include "render/inspect_json.h"

#include <span>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/format/torchscript.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/model/parameter_roles.h"
#include "render/json.h"
#include "render/row_chunks.h"
#include "render/statistics.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kLongestValue = 1000;  // bytes of a string value; --get prints all of it

void write_numbers(JsonWriter& json, std::span<const std::int64_t> numbers) {
  json.begin_array();
  for (const auto number : numbers) json.number(number);
  json.end_array();
}

/// Eight digits.
std::string in_hex(std::uint32_t number) {
  std::string digits(8, '0');
  for (auto at = digits.rbegin(); at != digits.rend(); ++at, number >>= 4U)
    *at = "0123456789abcdef"[number & 0xFU];
  return digits;
}

void write_entries(JsonWriter& json, const Checkpoint& checkpoint) {
  json.key("entries").begin_array();
  for (const auto& entry : checkpoint.entries) {
    const auto text = describe_entry(checkpoint.graph(), entry.use, kLongestValue);
    json.begin_object();
    json.key("path").string(checkpoint.path(entry.place));
    json.key("kind").string(text.kind);
    if (!text.json.empty()) json.key("value").raw(text.json);
    if (!text.class_name.empty()) json.key("class").string(text.class_name);
    json.end_object();
  }
  for (const auto& [key, value] : checkpoint.metadata) {
    json.begin_object();
    json.key("path").string("__metadata__[" + json_string(key) + ']');
    json.key("kind").string("str");
    json.key("value").string(value);
    json.end_object();
  }
  json.end_array();
}

/// Writes tensors and storages, a million of them: texts are put together in memory that is used again.
class RowWriter {
 public:
  RowWriter(JsonWriter& json, const Checkpoint& checkpoint) : json_(json), checkpoint_(checkpoint) {}

  void write_tensor(TensorId id, const std::vector<std::string>& roots, const TensorStatistics* statistics);
  void write_storage(StorageId id, const TensorsByStorage& by_storage);

 private:
  void write_view(const TensorInfo& tensor);
  void write_part(const TensorInfo& tensor);

  std::string_view path(const TensorInfo& tensor) {
    path_.clear();
    checkpoint_.append_path(path_, tensor.place);
    return path_;
  }

  /// All tensors of a state dict are of one section.
  std::string_view section(const TensorInfo& tensor) {
    if (tensor.state_dict == kNoIndex) return section_name(section_of(checkpoint_, tensor));
    if (tensor.state_dict != section_of_dict_.first)
      section_of_dict_ = {tensor.state_dict, section_name(section_of(checkpoint_, tensor))};
    return section_of_dict_.second;
  }

  JsonWriter& json_;
  const Checkpoint& checkpoint_;
  std::pair<std::uint32_t, std::string_view> section_of_dict_{kNoIndex, {}};
  std::string path_;
  std::vector<std::int64_t> strides_;
};

void RowWriter::write_view(const TensorInfo& tensor) {
  json_.key("dtype").string_of_ours(dtype_info(tensor.dtype).name);
  json_.key("shape");
  write_numbers(json_, checkpoint_.shape(tensor));
  checkpoint_.strides(tensor, strides_);
  json_.key("strides");
  write_numbers(json_, strides_);
  json_.key("offset").number(tensor.offset);
  json_.key("numel").number(checkpoint_.numel(tensor));
  json_.key("bytes").number(checkpoint_.bytes(tensor));
  json_.key("storage");
  if (tensor.storage == kNoIndex) {
    json_.null();
  } else {
    json_.string(checkpoint_.storages[tensor.storage].key);
  }
  json_.key("requires_grad").boolean(tensor.has(kRequiresGrad));
  json_.key("device");
  if (tensor.storage == kNoIndex) {
    json_.null();
  } else {
    json_.string(checkpoint_.devices[checkpoint_.storages[tensor.storage].device]);
  }
  if (tensor.has(kConjugate)) json_.key("conj").boolean(true);
  if (tensor.has(kNegative)) json_.key("neg").boolean(true);
  if (tensor.layout != TensorLayout::kStrided)
    json_.key("layout").string_of_ours(tensor_layout_name(tensor.layout));
}

void RowWriter::write_part(const TensorInfo& tensor) {
  json_.begin_object();
  json_.key("path").string(path(tensor));
  write_view(tensor);
  json_.end_object();
}

void RowWriter::write_tensor(TensorId id, const std::vector<std::string>& roots,
                             const TensorStatistics* statistics) {
  const auto& tensor = checkpoint_.tensors[id];
  json_.begin_object();
  json_.key("path").string(path(tensor));
  if (tensor.state_dict == kNoIndex) {
    json_.key("name").null();
    json_.key("root").null();
  } else {
    json_.key("name").string(tensor.name);
    write_hex_if_needed(json_, "name_hex", tensor.name);
    json_.key("root").string(roots[tensor.state_dict]);
  }
  const auto role = role_of(checkpoint_, tensor);
  json_.key("section").string_of_ours(section(tensor));
  json_.key("kind").string_of_ours(role_name(role.kind));
  json_.key("kind_from").string_of_ours(evidence_name(role.evidence));
  write_view(tensor);
  if (tensor.parts > 0) {
    json_.key("parts").begin_array();
    for (TensorId part = id + 1; part <= id + tensor.parts; ++part) write_part(checkpoint_.tensors[part]);
    json_.end_array();
  }
  if (statistics != nullptr) {
    json_.key("stats");
    write_statistics(json_, *statistics);
  }
  json_.end_object();
}

void RowWriter::write_storage(StorageId id, const TensorsByStorage& by_storage) {
  const auto& storage = checkpoint_.storages[id];
  json_.begin_object();
  json_.key("key").string(storage.key);
  json_.key("bytes").number(storage.bytes);
  json_.key("dtype").string_of_ours(storage.untyped ? "untyped" : dtype_info(storage.dtype).name);
  json_.key("crc32");
  if (storage.has_crc32) {
    json_.string_of_ours(in_hex(storage.crc32));
  } else {
    json_.null();
  }
  json_.key("tensors").begin_array();
  for (auto i = by_storage.first[id]; i < by_storage.first[id + 1]; ++i) {
    json_.string(path(checkpoint_.tensors[by_storage.order[i]]));
  }
  json_.end_array();
  json_.end_object();
}

/// An array of `count` rows. The first one must be written, of the others some may be left out.
template <typename WriteRow>
void write_rows(JsonWriter& json, const Checkpoint& checkpoint, std::size_t count,
                const WriteRow& write_row) {
  const auto print = [&](std::size_t begin, std::size_t end, Stream& out) {
    JsonWriter chunk(out, begin == 0 ? JsonWriter::Begin::kFirst : JsonWriter::Begin::kAfterOthers);
    RowWriter rows(chunk, checkpoint);
    for (auto row = begin; row < end; ++row) write_row(rows, row);
    chunk.stream();
  };
  json.begin_array();
  print_in_chunks(count, print, json.stream());
  json.end_array();
}

void write_amounts(JsonWriter& json, std::string_view key,
                   const std::map<std::string_view, Amount>& amounts) {
  json.key(key).begin_object();
  for (const auto& [name, amount] : amounts) {
    json.key(name).begin_object();
    json.key("tensors").number(amount.tensors);
    json.key("numel").number(amount.numel);
    json.key("bytes").number(amount.bytes);
    json.end_object();
  }
  json.end_object();
}

void write_totals(JsonWriter& json, const Totals& totals) {
  json.key("totals").begin_object();
  json.key("tensors").number(totals.tensors);
  json.key("parameters").number(totals.parameters);
  json.key("buffers").number(totals.buffers);
  json.key("numel").number(totals.numel);
  json.key("bytes").number(totals.bytes);
  json.key("view_bytes").number(totals.view_bytes);
  write_amounts(json, "by_dtype", totals.by_dtype);
  write_amounts(json, "by_section", totals.by_section);
  json.end_object();
}

void write_state_dicts(JsonWriter& json, const Checkpoint& checkpoint,
                       const std::vector<std::string>& roots) {
  json.key("state_dicts").begin_array();
  for (std::size_t i = 0; i < roots.size(); ++i) {
    json.begin_object();
    json.key("root").string(roots[i]);
    json.key("keys").number(static_cast<std::uint64_t>(checkpoint.state_dicts[i].entries.size()));
    json.key("module").boolean(checkpoint.state_dicts[i].of_module);
    json.end_object();
  }
  json.end_array();
}

void write_code(JsonWriter& json, const ScriptCode& code) {
  json.key("code").begin_object();
  json.key("class").string_or_null(code.root_class);
  json.key("methods").begin_array();
  for (const auto& method : code.methods) json.string(method);
  json.end_array();
  json.key("files").begin_array();
  for (const auto& [name, bytes] : code.files) {
    json.begin_object();
    json.key("name").string(name);
    json.key("bytes").number(bytes);
    json.end_object();
  }
  json.end_array();
  json.key("constants").number(code.constants);
  json.key("bytecode").boolean(code.has_bytecode);
  json.end_object();
}

}  // namespace

void write_inspection(JsonWriter& json, const InspectedFile& file) {
  const auto& checkpoint = file.checkpoint;
  std::vector<std::string> roots;
  for (const auto& dict : checkpoint.state_dicts) roots.push_back(checkpoint.path(dict.place));
  json.begin_object();
  json.key("file").string(file.name);
  write_hex_if_needed(json, "file_hex", file.name);
  json.key("format").string(format_word(format_of(checkpoint.format).name()));
  json.key("writer").string_or_null(checkpoint.writer);
  json.key("byteorder").string(checkpoint.big_endian ? "big" : "little");
  json.key("bytes").number(file.bytes);
  write_state_dicts(json, checkpoint, roots);
  if (const auto* code = script_code(checkpoint)) write_code(json, *code);
  write_entries(json, checkpoint);
  json.key("tensors");
  write_rows(json, checkpoint, file.tensors.size(), [&](RowWriter& rows, std::size_t row) {
    const auto id = file.tensors[row];
    if (!checkpoint.tensors[id].has(kIsPart)) {
      rows.write_tensor(id, roots, file.statistics.empty() ? nullptr : &file.statistics[row]);
    }
  });
  json.key("storages");
  write_rows(json, checkpoint, checkpoint.storages.size(), [&](RowWriter& rows, std::size_t row) {
    rows.write_storage(static_cast<StorageId>(row), file.by_storage);
  });
  write_totals(json, file.totals);
  json.key("findings");
  write_findings(json, file.findings, file.name);
  json.key("globals").begin_array();
  for (const auto& global : file.globals) {
    json.begin_object();
    json.key("name").string(global.name);
    json.key("weights_only").boolean(global.weights_only);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

void write_unreadable(JsonWriter& json, const std::string& name) {
  json.begin_object();
  json.key("file").string(name);
  write_hex_if_needed(json, "file_hex", name);
  json.key("format").null();
  json.key("bytes").null();
  for (const auto* key : {"state_dicts", "entries", "tensors", "storages", "findings", "globals"}) {
    json.key(key).begin_array().end_array();
  }
  json.key("totals").null();
  json.end_object();
}

}  // namespace ckpt::cli
