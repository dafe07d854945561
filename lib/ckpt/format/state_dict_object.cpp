// SPDX-License-Identifier: BSD-3-Clause
// A state dict out of the tables, instruction by instruction what torch.save writes of a dict of tensors.
#include <algorithm>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/state_dict_content.h"
#include "ckpt/format/torch_object.h"
#include "ckpt/model/state_dicts.h"
#include "ckpt/pickle/pickler.h"

namespace ckpt {
namespace {

class StateDictPickler {
 public:
  StateDictPickler(const Checkpoint& checkpoint, std::uint8_t id_items)
      : checkpoint_(checkpoint), id_items_(id_items) {}

  /// `ordered`: as an OrderedDict, which state_dict() of a module returns.
  Result<TorchObject> run(const std::vector<NamedRow>& rows, bool ordered) {
    if (ordered) {
      ordered_dict();
    } else {
      pickler_.empty_dict();
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto& row = checkpoint_.tensors[rows[i].tensor];
      CKPT_RETURN_IF_ERROR(check(rows[i].name, row));
      pickler_.begin_item(i, rows.size());
      pickler_.string(rows[i].name);
      tensor(row);
      pickler_.end_item(i, rows.size(), true);
    }
    object_.pickle.text = std::move(pickler_).finish();
    return std::move(object_);
  }

 private:
  struct Named {
    std::size_t number = 0;      ///< of the storage
    std::uint32_t key_slot = 0;  ///< memo slot of its key
  };

  Status check(const std::string& name, const TensorInfo& row) const {
    const auto refuse = [&](std::string_view why) {
      return Error(ErrorCode::kUnsupported, fmt::format("tensor {} {}", quoted(name), why));
    };
    if (row.layout != TensorLayout::kStrided || row.storage == kNoIndex)
      return refuse(fmt::format("is of layout {}: only strided tensors can be spelled anew",
                                tensor_layout_name(row.layout)));
    if (row.is_lazy()) return refuse("is a conjugate or negative view");
    if (row.dtype == Dtype::kFloat6E2m3 || row.dtype == Dtype::kFloat6E3m2)
      return refuse(
          fmt::format("is of dtype {}, which PyTorch does not have", dtype_info(row.dtype).safetensors));
    const auto shape = checkpoint_.shape(row);
    if (counts_values(row) && (shape.empty() || shape.back() % 2 != 0))
      return refuse("has values of half a byte and a last dimension that is not even");
    return {};
  }

  /// Is the shape that of single values, of which PyTorch counts pairs?
  bool counts_values(const TensorInfo& row) const {
    return checkpoint_.format == FormatId::kSafetensors && row.dtype == Dtype::kFloat4E2m1fnX2;
  }

  static bool is_untyped(const Storage& storage) {
    return storage.untyped || dtype_info(storage.dtype).storage_class.empty();
  }

  void tensor(const TensorInfo& row) {
    const auto& storage = checkpoint_.storages[row.storage];
    const bool untyped = is_untyped(storage);
    const std::size_t arguments = untyped ? 7 : 6;
    pickler_.global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    pickler_.begin_tuple(arguments);
    persistent_id(row.storage);
    pickler_.integer(static_cast<std::int64_t>(row.offset));
    const auto sizes = checkpoint_.shape(row);
    std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
    auto strides = checkpoint_.strides(row);
    if (counts_values(row)) {
      shape.back() /= 2;
      for (std::size_t i = 0; i + 1 < strides.size(); ++i) strides[i] /= 2;
    }
    integers(shape);
    integers(strides);
    pickler_.boolean(false);  // a state dict is detached
    ordered_dict();           // hooks
    if (untyped) pickler_.global("torch", dtype_info(row.dtype).name);
    pickler_.end_tuple(arguments);
    pickler_.reduce();
  }

  void ordered_dict() {
    pickler_.global("collections", "OrderedDict");
    pickler_.begin_tuple(0);
    pickler_.end_tuple(0);
    pickler_.reduce();
  }

  void integers(const std::vector<std::int64_t>& numbers) {
    pickler_.begin_tuple(numbers.size());
    for (const auto number : numbers) pickler_.integer(number);
    pickler_.end_tuple(numbers.size());
  }

  void persistent_id(StorageId id) {
    const auto& storage = checkpoint_.storages[id];
    const auto& dtype = dtype_info(storage.dtype);
    const bool untyped = is_untyped(storage);
    pickler_.begin_tuple(id_items_);
    pickler_.constant("storage");
    if (untyped) {
      pickler_.global("torch.storage", "UntypedStorage");
    } else {
      pickler_.global("torch", dtype.storage_class);
    }
    const auto [known, is_new] = named_.try_emplace(id);
    if (is_new) {
      known->second = {object_.storages.size(), pickler_.string(std::to_string(object_.storages.size()))};
      object_.storages.push_back(id);
    } else {
      pickler_.get(known->second.key_slot);
    }
    pickler_.constant(checkpoint_.devices[storage.device]);
    pickler_.integer(static_cast<std::int64_t>(untyped ? storage.bytes : storage.bytes / dtype.item_size));
    if (id_items_ == kLegacyIdItems) pickler_.none();
    pickler_.end_tuple(id_items_);
    pickler_.persistent_id();
  }

  const Checkpoint& checkpoint_;
  std::uint8_t id_items_;
  Pickler pickler_;
  TorchObject object_;
  std::unordered_map<StorageId, Named> named_;
};

/// Names that `__metadata__` leads to a tensor, as the reference's save_model leaves them: behind the others.
/// Where keys were edited they are rows already.
void add_aliases(const Checkpoint& checkpoint, std::vector<NamedRow>& rows, std::vector<std::string>& notes) {
  const auto& metadata = checkpoint.metadata;
  const auto tied = tied_names(checkpoint);
  for (const auto& [entry, tensor] : tied) rows.push_back({metadata[entry].first, tensor});
  const auto others =
      static_cast<std::size_t>(std::count_if(metadata.begin(), metadata.end(),
                                             [](const auto& entry) { return entry.first != "format"; })) -
      tied.size();
  if (others > 0)
    notes.push_back(fmt::format("{} of '__metadata__' {} not in the output",
                                others == 1 ? "1 entry" : fmt::format("{} entries", with_separators(others)),
                                others == 1 ? "is" : "are"));
  if (!tied.empty())
    notes.push_back(fmt::format("{} tied again, as '__metadata__' says", counted(tied.size(), "key")));
}

}  // namespace

Result<TorchObject> make_state_dict_object(const Checkpoint& checkpoint, std::uint8_t id_items,
                                           std::vector<std::string>& notes) {
  CKPT_ASSIGN_OR_RETURN(auto content, state_dict_content(checkpoint));
  add_aliases(checkpoint, content.rows, notes);
  return StateDictPickler(checkpoint, id_items).run(content.rows, content.of_module);
}

}  // namespace ckpt
