// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/old_torchscript.h"

#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"

namespace ckpt {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLargestModel = 16U << 20U;  // bytes of model.json; real ones have thousands
constexpr std::size_t kDeepest = 256;                // modules in modules
constexpr std::size_t kLargestRank = 64;             // PyTorch's own limit
constexpr std::size_t kLongestPrefix = 8192;         // bytes
constexpr std::size_t kLongestKeys = 64U << 20U;     // bytes of all keys together

/// Names of caffe2::TensorProto::DataType, and their numbers, as JSON may have either.
struct DataType {
  std::string_view name;
  std::int64_t number;
  Dtype dtype;
};

constexpr std::array<DataType, 10> kDataTypes = {{
    {"FLOAT", 1, Dtype::kFloat32},
    {"INT32", 2, Dtype::kInt32},
    {"BYTE", 3, Dtype::kUint8},
    {"BOOL", 5, Dtype::kBool},
    {"UINT8", 6, Dtype::kUint8},
    {"INT8", 7, Dtype::kInt8},
    {"INT16", 9, Dtype::kInt16},
    {"INT64", 10, Dtype::kInt64},
    {"FLOAT16", 12, Dtype::kFloat16},
    {"DOUBLE", 13, Dtype::kFloat64},
}};

Error bad(std::string message) {
  return Error(ErrorCode::kCorrupt, std::move(message)).in_record("model.json");
}

/// A member of an object, or null.
const Json* member(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

/// An integer from 0 on: a number, a string of digits, or 0 where it is absent.
std::optional<std::int64_t> count_of(const Json* value) {
  if (value == nullptr) return 0;
  std::int64_t number = -1;
  if (value->is_number_unsigned() &&
      value->get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    number = value->get<std::int64_t>();
  } else if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  }
  return number < 0 ? std::nullopt : std::optional(number);
}

bool flag(const Json* value) {
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

std::string text_of(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

/// The items of an array; nothing where it is absent.
const Json::array_t& items(const Json& object, const char* name) {
  static const Json::array_t kNone;
  const auto* value = member(object, name);
  return value != nullptr && value->is_array() ? value->get_ref<const Json::array_t&>() : kNone;
}

std::optional<Dtype> dtype_of(const Json* value) {
  if (value == nullptr) return std::nullopt;
  const auto name = text_of(value);
  for (const auto& type : kDataTypes) {
    const bool same_number = value->is_number_integer() && value->get<std::int64_t>() == type.number;
    if (same_number || name == type.name) return type.dtype;
  }
  return std::nullopt;
}

/// 1.3 keeps quantised tensors under the dtype of their integers.
std::optional<Dtype> quantized(Dtype dtype) {
  switch (dtype) {
    case Dtype::kUint8: return Dtype::kQuint8;
    case Dtype::kInt8: return Dtype::kQint8;
    case Dtype::kInt32: return Dtype::kQint32;
    default: return std::nullopt;
  }
}

class ModelReader {
 public:
  ModelReader(const Json& model, const ZipDirectory& directory, Checkpoint& checkpoint,
              Diagnostics& diagnostics)
      : model_(model), directory_(directory), checkpoint_(checkpoint), diagnostics_(diagnostics) {}

  Status run() {
    checkpoint_.places.push_back({});
    for (const auto& tensor : items(model_, "tensors")) CKPT_RETURN_IF_ERROR(read_tensor(tensor));
    const auto* main = member(model_, "mainModule");
    if (main == nullptr || !main->is_object()) return bad("the model has no 'mainModule'");
    dict_.place = 0;
    dict_.of_module = true;
    CKPT_RETURN_IF_ERROR(walk(*main));
    for (std::size_t i = 0; i < table_.size(); ++i) {
      if (!used_[i]) add_row(i, fmt::format("tensors[{}]", i), kNoIndex, 0);
    }
    if (!dict_.entries.empty()) checkpoint_.state_dicts.push_back(std::move(dict_));
    return {};
  }

 private:
  struct Frame {
    const Json* module;
    std::string prefix;
    std::size_t next = 0;
  };

  // ---- the table of tensors

  Status read_tensor(const Json& json) {
    const auto number = table_.size();
    const auto wrong = [&](std::string_view why) {
      return bad(fmt::format("tensor {} of the model {}", number, why));
    };
    if (!json.is_object()) return wrong("is no object");
    TensorInfo row;
    const auto dtype = dtype_of(member(json, "dataType"));
    if (!dtype) return wrong("has no known 'dataType'");
    row.dtype = *dtype;
    if (flag(member(json, "isQuantized"))) {
      const auto quantized_dtype = quantized(*dtype);
      if (!quantized_dtype) return wrong("is quantised and holds no integers that can be");
      row.dtype = *quantized_dtype;
      row.layout = TensorLayout::kQuantized;
    }
    if (flag(member(json, "requiresGrad"))) row.flags |= kRequiresGrad;
    const auto offset = count_of(member(json, "offset"));
    const auto sizes = counts(json, "dims");
    const auto strides = counts(json, "strides");
    if (!offset || !sizes || !strides || sizes->size() != strides->size() || sizes->size() > kLargestRank)
      return wrong("has sizes, strides or an offset that can't be");
    row.offset = static_cast<std::uint64_t>(*offset);
    row.rank = static_cast<std::uint8_t>(sizes->size());
    row.dimensions_at = checkpoint_.dimensions.size();
    auto& pool = checkpoint_.dimensions;
    pool.insert(pool.end(), sizes->begin(), sizes->end());
    row.flags |= kContiguous;
    if (*strides != checkpoint_.strides(row)) {
      row.flags = static_cast<std::uint16_t>(row.flags & ~unsigned{kContiguous});
      pool.insert(pool.end(), strides->begin(), strides->end());
    }
    const auto* data = member(json, "data");
    const auto key = data != nullptr && data->is_object() ? text_of(member(*data, "key")) : std::string();
    CKPT_ASSIGN_OR_RETURN(row.storage, storage(key, row.dtype, text_of(member(json, "device"))));
    CKPT_RETURN_IF_ERROR(check_view(row, number, *sizes, *strides));
    table_.push_back(row);
    used_.push_back(false);
    return {};
  }

  static std::optional<std::vector<std::int64_t>> counts(const Json& object, const char* name) {
    std::vector<std::int64_t> out;
    for (const auto& item : items(object, name)) {
      const auto number = count_of(&item);
      if (!number) return std::nullopt;
      out.push_back(*number);
    }
    return out;
  }

  Result<StorageId> storage(const std::string& key, Dtype dtype, const std::string& device) {
    const auto record = directory_.find(key);
    if (!record) return bad(fmt::format("the archive has no record {}", ckpt::quoted(key)));
    const auto [known, is_new] =
        storage_of_record_.try_emplace(*record, static_cast<StorageId>(checkpoint_.storages.size()));
    if (!is_new) return known->second;
    const auto& entry = directory_.entry(*record);
    Storage storage;
    storage.key = directory_.name(*record);
    storage.bytes = entry.size;
    storage.record = *record;
    storage.crc32 = entry.crc32;
    storage.has_crc32 = entry.crc32 != 0;
    storage.dtype = dtype;
    storage.device = checkpoint_.intern_device(device.empty() ? "cpu" : device);
    if (entry.stored()) {
      CKPT_ASSIGN_OR_RETURN(const auto location, directory_.locate(*record));
      storage.extent = location.data;
    }
    checkpoint_.storages.push_back(storage);
    return known->second;
  }

  Status check_view(const TensorInfo& row, std::size_t number, const std::vector<std::int64_t>& sizes,
                    const std::vector<std::int64_t>& strides) const {
    const auto& storage = checkpoint_.storages[row.storage];
    std::optional<std::uint64_t> needed = row.offset;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] == 0) return {};
      const auto reach =
          checked_multiply(static_cast<std::uint64_t>(sizes[i] - 1), static_cast<std::uint64_t>(strides[i]));
      needed = needed && reach ? checked_add(*needed, *reach) : std::nullopt;
    }
    if (needed) needed = checked_add(*needed, 1);
    if (needed) needed = checked_multiply(*needed, dtype_info(row.dtype).item_size);
    if (needed && *needed <= storage.bytes) return {};
    return bad(fmt::format("tensor {} of the model needs {} bytes but record {} has {}", number,
                           needed ? std::to_string(*needed) : "more than 2^64", ckpt::quoted(storage.key),
                           storage.bytes));
  }

  // ---- modules

  Status walk(const Json& main) {
    std::vector<Frame> frames;
    frames.push_back({&main, ""});
    CKPT_RETURN_IF_ERROR(list_parameters(frames.back()));
    while (!frames.empty()) {
      auto& frame = frames.back();
      const auto& children = items(*frame.module, "submodules");
      if (frame.next == children.size()) {
        frames.pop_back();
        continue;
      }
      const auto& child = children[frame.next++];
      if (!child.is_object()) return bad("a module is no object");
      if (frames.size() == kDeepest)
        return bad(fmt::format("modules are nested more than {} deep", kDeepest));
      auto prefix = frame.prefix + text_of(member(child, "name")) + '.';
      if (prefix.size() > kLongestPrefix)
        return bad(fmt::format("the name of a module has more than {} bytes", kLongestPrefix));
      frames.push_back({&child, std::move(prefix)});
      CKPT_RETURN_IF_ERROR(list_parameters(frames.back()));
    }
    return {};
  }

  /// Parameters, then buffers, as state_dict() has them.
  Status list_parameters(const Frame& frame) {
    for (const bool buffers : {false, true}) {
      for (const auto& parameter : items(*frame.module, "parameters")) {
        if (!parameter.is_object()) return bad("a parameter is no object");
        if (flag(member(parameter, "isBuffer")) != buffers) continue;
        const auto number = count_of(member(parameter, "tensorId"));
        const auto name = frame.prefix + text_of(member(parameter, "name"));
        if (!number || static_cast<std::uint64_t>(*number) >= table_.size())
          return bad(fmt::format("parameter {} names no tensor of the model", ckpt::quoted(name)));
        key_bytes_ += name.size();
        if (key_bytes_ > kLongestKeys)
          return bad(fmt::format("the keys have more than {} bytes", kLongestKeys));
        add_key(static_cast<std::size_t>(*number), name, buffers);
      }
    }
    return {};
  }

  void add_key(std::size_t number, const std::string& name, bool is_buffer) {
    if (!names_.insert(name).second) {
      if (!std::exchange(reported_, true)) {
        diagnostics_.add(
            {"duplicate-key", Severity::kError, "model.json",
             fmt::format("the key {} is set twice; only the last value is loaded", ckpt::quoted(name)), ""});
      }
      return;
    }
    used_[number] = true;
    const auto row = add_row(number, name, 0, is_buffer ? kBufferByModule : kIsParameter);
    dict_.entries.push_back({kNoUse, kNoUse, row});
  }

  TensorId add_row(std::size_t number, std::string name, std::uint32_t state_dict, std::uint16_t flags) {
    auto row = table_[number];
    const auto id = static_cast<TensorId>(checkpoint_.tensors.size());
    row.name = checkpoint_.strings.emplace_back(std::move(name));
    row.state_dict = state_dict;
    row.flags |= flags;
    row.place = static_cast<PlaceId>(checkpoint_.places.size());
    checkpoint_.places.push_back({0, id, StepKind::kName});
    checkpoint_.tensors.push_back(row);
    return id;
  }

  const Json& model_;
  const ZipDirectory& directory_;
  Checkpoint& checkpoint_;
  Diagnostics& diagnostics_;
  std::vector<TensorInfo> table_;
  std::vector<bool> used_;  ///< by number in the table: is it under a key?
  std::unordered_map<RecordId, StorageId> storage_of_record_;
  std::unordered_set<std::string> names_;
  StateDict dict_;
  std::size_t key_bytes_ = 0;
  bool reported_ = false;
};

}  // namespace

Result<Checkpoint> read_old_torchscript(std::shared_ptr<const ByteSource> source, ZipDirectory directory,
                                        Diagnostics& diagnostics) {
  auto data = std::make_shared<OldTorchScriptData>(std::move(directory));
  const auto record = data->directory.find("model.json");
  if (!record) return Error(ErrorCode::kCorrupt, "the archive has no 'model.json'");
  CKPT_ASSIGN_OR_RETURN(const auto text, read_record(data->directory, *record, kLargestModel, diagnostics));
  const auto view = as_text(text);
  const auto model = Json::parse(view.begin(), view.end(), nullptr, false);
  if (!model.is_object()) return bad("it is no JSON object");
  Checkpoint checkpoint;
  checkpoint.format = FormatId::kOldTorchScript;
  checkpoint.writer = "PyTorch 1.0 to 1.3";
  CKPT_RETURN_IF_ERROR(ModelReader(model, data->directory, checkpoint, diagnostics).run());
  checkpoint.parts.push_back({std::move(source), std::move(data), {}});
  return checkpoint;
}

Result<Checkpoint> OldTorchScriptFormat::read(std::shared_ptr<const ByteSource> source,
                                              Diagnostics& diagnostics, Intent intent) const {
  CKPT_ASSIGN_OR_RETURN(auto directory, ZipDirectory::read(source, diagnostics, intent));
  return read_old_torchscript(std::move(source), std::move(directory), diagnostics);
}

Result<Layout> OldTorchScriptFormat::lay_out(const Checkpoint& checkpoint) const {
  if (!checkpoint.edited()) return Layout::of_whole_file(checkpoint.parts.front().source->size());
  return Error(ErrorCode::kUnsupported,
               "a TorchScript archive of PyTorch 1.0 to 1.3 can't be edited in place; PyTorch 1.13 and later "
               "don't load it")
      .with_hint("convert it with 'ckpt convert --to torch' and edit that file");
}

}  // namespace ckpt
