// SPDX-License-Identifier: BSD-3-Clause
#include "render/inspect_json.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/model/parameter_roles.h"
#include "render/json.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kLongestValue = 1000;  // bytes of a string value; --get prints all of it

std::string format_name(FormatId id) {
  std::string name(format_of(id).name());
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

template <typename Numbers>
void write_numbers(JsonWriter& json, std::string_view key, const Numbers& numbers) {
  json.key(key).begin_array();
  for (const auto number : numbers) json.number(number);
  json.end_array();
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

void write_view(JsonWriter& json, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  json.key("dtype").string(dtype_info(tensor.dtype).name);
  write_numbers(json, "shape", checkpoint.shape(tensor));
  write_numbers(json, "strides", checkpoint.strides(tensor));
  json.key("offset").number(tensor.offset);
  json.key("numel").number(checkpoint.numel(tensor));
  json.key("bytes").number(checkpoint.bytes(tensor));
  json.key("storage");
  if (tensor.storage == kNoIndex) {
    json.null();
  } else {
    json.string(checkpoint.storages[tensor.storage].key);
  }
  json.key("requires_grad").boolean(tensor.has(kRequiresGrad));
  json.key("device");
  if (tensor.storage == kNoIndex) {
    json.null();
  } else {
    json.string(checkpoint.devices[checkpoint.storages[tensor.storage].device]);
  }
  if (tensor.has(kConjugate)) json.key("conj").boolean(true);
  if (tensor.has(kNegative)) json.key("neg").boolean(true);
  if (tensor.layout != TensorLayout::kStrided) json.key("layout").string(tensor_layout_name(tensor.layout));
}

void write_part(JsonWriter& json, const Checkpoint& checkpoint, const TensorInfo& tensor) {
  json.begin_object();
  json.key("path").string(checkpoint.path(tensor.place));
  write_view(json, checkpoint, tensor);
  json.end_object();
}

void write_tensor(JsonWriter& json, const Checkpoint& checkpoint, TensorId id,
                  const std::vector<std::string>& roots) {
  const auto& tensor = checkpoint.tensors[id];
  json.begin_object();
  json.key("path").string(checkpoint.path(tensor.place));
  if (tensor.state_dict == kNoIndex) {
    json.key("name").null();
    json.key("root").null();
  } else {
    json.key("name").string(tensor.name);
    write_hex_if_needed(json, "name_hex", tensor.name);
    json.key("root").string(roots[tensor.state_dict]);
  }
  const auto role = role_of(checkpoint, tensor);
  json.key("section").string(section_name(section_of(checkpoint, tensor)));
  json.key("kind").string(role_name(role.kind));
  json.key("kind_from").string(evidence_name(role.evidence));
  write_view(json, checkpoint, tensor);
  if (tensor.parts > 0) {
    json.key("parts").begin_array();
    for (TensorId part = id + 1; part <= id + tensor.parts; ++part)
      write_part(json, checkpoint, checkpoint.tensors[part]);
    json.end_array();
  }
  json.end_object();
}

void write_storages(JsonWriter& json, const InspectedFile& file) {
  const auto& checkpoint = file.checkpoint;
  json.key("storages").begin_array();
  for (StorageId id = 0; id < checkpoint.storages.size(); ++id) {
    const auto& storage = checkpoint.storages[id];
    json.begin_object();
    json.key("key").string(storage.key);
    json.key("bytes").number(storage.bytes);
    json.key("dtype").string(storage.untyped ? "untyped" : dtype_info(storage.dtype).name);
    json.key("crc32");
    if (storage.has_crc32) {
      std::array<char, 8> digits{};
      fmt::format_to_n(digits.data(), digits.size(), "{:08x}", storage.crc32);
      json.string({digits.data(), digits.size()});
    } else {
      json.null();
    }
    json.key("tensors").begin_array();
    for (auto i = file.by_storage.first[id]; i < file.by_storage.first[id + 1]; ++i) {
      json.string(checkpoint.path(checkpoint.tensors[file.by_storage.order[i]].place));
    }
    json.end_array();
    json.end_object();
  }
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

}  // namespace

void write_inspection(JsonWriter& json, const InspectedFile& file) {
  const auto& checkpoint = file.checkpoint;
  std::vector<std::string> roots;
  for (const auto& dict : checkpoint.state_dicts) roots.push_back(checkpoint.path(dict.place));
  json.begin_object();
  json.key("file").string(file.name);
  write_hex_if_needed(json, "file_hex", file.name);
  json.key("format").string(format_name(checkpoint.format));
  json.key("writer").string_or_null(checkpoint.writer);
  json.key("byteorder").string(checkpoint.big_endian ? "big" : "little");
  json.key("bytes").number(file.bytes);
  write_state_dicts(json, checkpoint, roots);
  write_entries(json, checkpoint);
  json.key("tensors").begin_array();
  for (const auto id : file.tensors) {
    if (!checkpoint.tensors[id].has(kIsPart)) write_tensor(json, checkpoint, id, roots);
  }
  json.end_array();
  write_storages(json, file);
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
