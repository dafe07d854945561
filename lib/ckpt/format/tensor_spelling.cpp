// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/tensor_spelling.h"

#include <algorithm>
#include <span>
#include <utility>

#include <fmt/format.h>

namespace ckpt {
namespace {

constexpr int kNesting = 8;  // as deep as tensor_rebuild looks

NewValue spell_dtype(Dtype dtype) {
  return NewValue::global("torch", dtype_info(dtype).name);
}

}  // namespace

TensorSpeller::TensorSpeller(const Checkpoint& checkpoint, const StorageSpelling& storages)
    : checkpoint_(checkpoint),
      graph_(checkpoint.graph()),
      spelling_(storages),
      reader_(graph_, dialect_of(checkpoint)),
      repeated_(graph_.size()) {
  for (Use node = 0; node < graph_.size(); ++node) {
    if (graph_.repeats(node)) repeated_.insert(graph_.repeated(node));
  }
}

NewValue TensorSpeller::spell(const TensorInfo& row) const {
  return spell(row, row.has(kRequiresGrad));
}

NewValue TensorSpeller::spell(const TensorInfo& row, bool requires_grad) const {
  const bool untyped = is_untyped(row.storage);
  std::vector<NewValue> arguments = {
      persistent_id(row.storage),
      number(row.offset),
      sizes(checkpoint_.shape(row)),
      sizes(checkpoint_.strides(row)),
      NewValue::boolean(requires_grad),
      NewValue::call(NewValue::global("collections", "OrderedDict"), {}),  // hooks
  };
  if (untyped) arguments.push_back(spell_dtype(row.dtype));
  return NewValue::call(
      NewValue::global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2"),
      std::move(arguments));
}

/// A Parameter stays one, if not with what else it has.
NewValue TensorSpeller::spell_whole(const TensorInfo& row) const {
  if (is_script() || !row.has(kIsParameter) || !is_differentiable(row.dtype)) return spell(row);
  return NewValue::call(NewValue::global("torch._utils", "_rebuild_parameter"),
                        {spell(row, false), NewValue::boolean(row.has(kRequiresGrad)),
                         NewValue::call(NewValue::global("collections", "OrderedDict"), {})});
}

Status TensorSpeller::respell(const TensorInfo& row, Use use, GraphEdits& edits, OtherUses others) {
  if (is_script() && !std::exchange(knows_shared_, true)) CKPT_RETURN_IF_ERROR(shared_.find(checkpoint_));
  if (shared_.changes_as_one(use)) {
    const auto object = graph_.resolve(use);
    const auto call = innermost(object, OtherUses::kFollow);
    if (!asks_too_much(object, row) && fits(call, row)) {
      respell_arguments(row, call, edits);  // once more for each key, with the same result
      return {};
    }
    CKPT_RETURN_IF_ERROR(shared_.separate(use));
  }
  const auto call = innermost(use, others);
  if (asks_too_much(use, row)) {
    edits.replace(use, spell(row));
  } else if (!fits(call, row)) {
    edits.replace(call.use, call.use == use ? spell_whole(row) : spell(row, false));
  } else {
    respell_arguments(row, call, edits);
  }
  return {};
}

/// What differs from `old_`, which is what the call says now.
void TensorSpeller::respell_arguments(const TensorInfo& row, const DenseCall& call, GraphEdits& edits) const {
  respell_place(call, row, edits);
  const auto shape = checkpoint_.shape(row);
  if (!std::ranges::equal(old_.sizes, shape)) edits.replace(call.arguments[2], sizes(shape));
  if (call.kind == Rebuild::kTensorV3 && old_.dtype != row.dtype)
    edits.replace(call.arguments[6], spell_dtype(row.dtype));
}

Status TensorSpeller::relocate(const TensorInfo& row, GraphEdits& edits) {
  const auto call = call_with_storage(row.use);
  const auto is_tensor = reader_.read(call.use, old_);
  if (call.kind == Rebuild::kNotATensor || !is_tensor.ok() || !*is_tensor || !old_.storage)
    return Error(ErrorCode::kInternal, "a tensor that views no storage can't be given another one");
  if (call.has_shared_arguments)
    return Error(ErrorCode::kUnsupported, "its arguments are those of another tensor, too");
  CKPT_RETURN_IF_ERROR(drop_lazy_bits(call, row, edits));
  if (old_.dtype != row.dtype) return respell_dtype(call, row, edits);
  respell_place(call, row, edits);
  return {};
}

/// What negates or conjugates the tensor when it is read goes where the row's bytes are its values.
Status TensorSpeller::drop_lazy_bits(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const {
  const auto gone = old_.flags & ~row.flags & (kConjugate | kNegative);
  if (gone == 0) return {};
  const auto metadata = call.arguments[metadata_index(call.kind)];
  if (is_shared(metadata))
    return Error(ErrorCode::kUnsupported, "what makes it lazily negated makes other tensors so, too");
  for (const auto& [key, value] : metadata_items(graph_, metadata)) {
    if ((lazy_flag_of(graph_, key) & gone) == 0) continue;
    edits.drop(key);
    edits.drop(value);
  }
  return {};
}

/// The call that `old_` was read from says the row's dtype and place.
Status TensorSpeller::respell_dtype(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const {
  if (call.dtype != kNoUse) edits.replace(call.dtype, spell_dtype(row.dtype));
  if (is_untyped(row.storage) != (call.kind == Rebuild::kTensorV3) && call.kind != Rebuild::kLegacyTensor) {
    respell_function(call, row, edits);
    return {};
  }
  respell_place(call, row, edits);
  if (call.kind == Rebuild::kTensorV3) edits.replace(call.arguments[6], spell_dtype(row.dtype));
  if (call.kind != Rebuild::kLegacyTensor) return {};
  std::string name(dtype_info(row.dtype).storage_class);
  const auto stem = name.rfind("Storage");
  const auto old = graph_.global(graph_.resolve(call.function));
  if (stem == std::string::npos || !old) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("a tensor pickled as one of PyTorch's old classes can't be {}",
                             dtype_info(row.dtype).name));
  }
  edits.replace(call.function, NewValue::global(old->module, name.replace(stem, name.npos, "Tensor")));
  return {};
}

/// _rebuild_tensor_v2 becomes _v3, or the other way round: only the latter has untyped storages. The call
/// stays the same instruction, so that all who use its result follow.
void TensorSpeller::respell_function(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const {
  const bool untyped = is_untyped(row.storage);
  std::vector<NewValue> arguments = {persistent_id(row.storage), number(row.offset),
                                     sizes(checkpoint_.shape(row)), sizes(checkpoint_.strides(row))};
  if (call.kind == Rebuild::kTensor) {
    arguments.push_back(NewValue::boolean(false));                                            // requires_grad
    arguments.push_back(NewValue::call(NewValue::global("collections", "OrderedDict"), {}));  // hooks
  } else {
    arguments.push_back(NewValue::move_of(call.arguments[4]));
    arguments.push_back(NewValue::move_of(call.arguments[5]));
  }
  if (untyped) arguments.push_back(spell_dtype(row.dtype));
  const auto metadata = metadata_index(call.kind);
  if (call.arguments.size() > metadata) arguments.push_back(NewValue::move_of(call.arguments[metadata]));
  edits.replace(call.function,
                NewValue::global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2"));
  edits.replace(call.tuple, NewValue::tuple(std::move(arguments)));
}

/// Storage, offset and strides of the call that `old_` was read from become the row's.
void TensorSpeller::respell_place(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const {
  const auto strides = checkpoint_.strides(row);
  if (!same_storage(checkpoint_.storages[row.storage]))
    edits.replace(call.arguments[0], persistent_id(row.storage));
  if (graph_.integer(call.arguments[1]) != static_cast<std::int64_t>(row.offset))
    edits.replace(call.arguments[1], number(row.offset));
  if (!std::ranges::equal(old_.strides, strides)) edits.replace(call.arguments[3], sizes(strides));
}

/// Does anything else in the document refer to the object used at `use`, at any stage of its making?
bool TensorSpeller::is_shared(Use use) const {
  if (graph_.repeats(use)) return true;
  auto node = use;
  while (!repeated_.contains(node)) {
    const auto effect = opcode_info(graph_.opcode(node)).effect;
    if (effect != Effect::kExtendOne && effect != Effect::kExtendMark) return false;
    node = operands(node).front();
  }
  return true;
}

std::vector<Use> TensorSpeller::operands(Use node) const {
  std::vector<Use> out;
  graph_.children(node, out);
  return out;
}

NewValue TensorSpeller::number(std::uint64_t value) const {
  const auto signed_value = static_cast<std::int64_t>(value);
  return is_script() ? NewValue::whole_number(signed_value) : NewValue::number(signed_value);
}

NewValue TensorSpeller::sizes(std::span<const std::int64_t> values) const {
  std::vector<NewValue> items;
  items.reserve(values.size());
  for (const auto value : values) items.push_back(number(static_cast<std::uint64_t>(value)));
  return NewValue::tuple(std::move(items));
}

TensorSpeller::DenseCall TensorSpeller::innermost(Use use, OtherUses others) {
  for (int depth = 0; depth < kNesting; ++depth) {
    const DenseCall whole{use, Rebuild::kNotATensor, {}};
    if (is_shared(use) && (depth > 0 || others == OtherUses::kStay)) return whole;
    const auto opcode = graph_.opcode(use);
    if (opcode != Opcode::kBuild && opcode != Opcode::kReduce) return whole;
    const auto outer = operands(use);
    auto made = outer;  // function and arguments
    if (opcode == Opcode::kBuild) {
      const auto making = graph_.opcode(outer[0]);
      if (making != Opcode::kReduce && making != Opcode::kNewobj) return whole;
      made = operands(outer[0]);
    }
    if (made.size() != 2) return whole;
    auto kind = reader_.kind(made[0]);
    const bool legacy = kind == Rebuild::kLegacyTensor && opcode == Opcode::kBuild;
    const bool built_parameter = kind == Rebuild::kParameterClass;
    if (opcode == Opcode::kBuild && !legacy && !built_parameter) return whole;
    auto tuple = legacy ? outer[1] : made[1];
    if (is_shared(tuple)) return whole;
    auto arguments = operands(tuple);
    if (kind == Rebuild::kFromType && arguments.size() == 4) {
      kind = reader_.kind(arguments[0]);
      tuple = arguments[2];
      if (is_shared(tuple)) return whole;
      arguments = operands(tuple);
    }
    switch (kind) {
      case Rebuild::kTensor:
      case Rebuild::kTensorV2:
      case Rebuild::kTensorV3:
      case Rebuild::kLegacyTensor: return {use, kind, std::move(arguments)};
      case Rebuild::kParameter:
      case Rebuild::kParameterWithState:
      case Rebuild::kParameterClass:
        if (arguments.empty()) return whole;
        use = arguments[0];
        break;
      default: return whole;
    }
  }
  return {use, Rebuild::kNotATensor, {}};
}

/// The call below all that wraps the tensor used at `use`, whoever else uses it.
TensorSpeller::DenseCall TensorSpeller::call_with_storage(Use use) {
  const DenseCall none{graph_.resolve(use), Rebuild::kNotATensor, {}};
  Use dtype = kNoUse;
  bool has_shared_arguments = false;
  for (int depth = 0; depth < kNesting; ++depth) {
    const auto node = graph_.resolve(use);
    const auto opcode = graph_.opcode(node);
    if (opcode != Opcode::kBuild && opcode != Opcode::kReduce) return none;
    const auto outer = operands(node);
    auto made = outer;  // function and arguments
    if (opcode == Opcode::kBuild) made = operands(graph_.resolve(outer[0]));
    if (made.size() != 2) return none;
    auto kind = reader_.kind(made[0]);
    const bool legacy = kind == Rebuild::kLegacyTensor && opcode == Opcode::kBuild;
    auto function = made[0];
    auto tuple = legacy ? outer[1] : made[1];
    has_shared_arguments = has_shared_arguments || is_shared(tuple);
    auto arguments = operands(graph_.resolve(tuple));
    if (kind == Rebuild::kFromType && arguments.size() == 4) {
      kind = reader_.kind(arguments[0]);
      function = arguments[0];
      tuple = arguments[2];
      has_shared_arguments = has_shared_arguments || is_shared(tuple);
      arguments = operands(graph_.resolve(tuple));
    }
    switch (kind) {
      case Rebuild::kTensor:
      case Rebuild::kTensorV2:
      case Rebuild::kTensorV3:
      case Rebuild::kQuantized:
      case Rebuild::kLegacyTensor:
        if (arguments.size() < 4) return none;
        return {node, kind, std::move(arguments), function, tuple, dtype, has_shared_arguments};
      case Rebuild::kDeviceFromCpu:
        if (arguments.size() < 2) return none;
        dtype = arguments[1];
        use = arguments[0];
        break;
      case Rebuild::kParameter:
      case Rebuild::kParameterWithState:
      case Rebuild::kParameterClass:
        if (arguments.empty()) return none;
        use = arguments[0];
        break;
      default: return none;
    }
  }
  return none;
}

/// Does what stands at `use` want a gradient, which values of the row's dtype can't have?
bool TensorSpeller::asks_too_much(Use use, const TensorInfo& row) {
  if (is_differentiable(row.dtype)) return false;
  const auto is_tensor = reader_.read(graph_.resolve(use), old_);
  return is_tensor.ok() && *is_tensor && (old_.flags & kRequiresGrad) != 0;
}

/// Can the call say what the row is with other arguments? Then `old_` is what it says now.
bool TensorSpeller::fits(const DenseCall& call, const TensorInfo& row) {
  if (call.kind == Rebuild::kNotATensor) return false;
  const auto is_tensor = reader_.read(call.use, old_);
  if (!is_tensor.ok() || !*is_tensor || !old_.storage) return false;
  if ((old_.flags & (kConjugate | kNegative)) != 0) return false;  // the row's bytes are its values
  if (is_untyped(row.storage) != (call.kind == Rebuild::kTensorV3)) return false;
  return call.kind != Rebuild::kLegacyTensor || old_.dtype == row.dtype;  // its class names the dtype
}

bool TensorSpeller::same_storage(const Storage& storage) const {
  const auto& old = *old_.storage;
  return !storage.is_added && !old.view && graph_.string(old.key) == storage.key;
}

bool TensorSpeller::is_untyped(StorageId storage) const {
  return !is_script() && checkpoint_.storages[storage].untyped;
}

NewValue TensorSpeller::persistent_id(StorageId id) const {
  const auto& storage = checkpoint_.storages[id];
  const auto& dtype = dtype_info(storage.dtype);
  const bool untyped = is_untyped(id);
  const auto items = untyped ? storage.bytes : storage.bytes / dtype.item_size;
  const auto storage_class = is_script() ? script_storage_class(storage.dtype) : dtype.storage_class;
  std::vector<NewValue> parts = {
      NewValue::text("storage"),
      untyped ? NewValue::global("torch.storage", "UntypedStorage")
              : NewValue::global("torch", storage_class),
      NewValue::text(storage.is_added ? spelling_.added_keys[storage.record] : std::string(storage.key)),
      NewValue::text(checkpoint_.devices[storage.device]),
      number(items),
  };
  if (spelling_.has_view_item) parts.push_back(NewValue{});
  return NewValue::persistent_id(NewValue::tuple(std::move(parts)));
}

}  // namespace ckpt
