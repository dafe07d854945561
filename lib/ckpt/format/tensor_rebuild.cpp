// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/tensor_rebuild.h"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

constexpr std::array<std::pair<std::string_view, Rebuild>, 14> kUtilsFunctions = {{
    {"_rebuild_tensor_v2", Rebuild::kTensorV2},
    {"_rebuild_parameter", Rebuild::kParameter},
    {"_rebuild_tensor", Rebuild::kTensor},
    {"_rebuild_tensor_v3", Rebuild::kTensorV3},
    {"_rebuild_parameter_with_state", Rebuild::kParameterWithState},
    {"_rebuild_sparse_tensor", Rebuild::kSparse},
    {"_rebuild_sparse_csr_tensor", Rebuild::kSparse},
    {"_rebuild_qtensor", Rebuild::kQuantized},
    {"_rebuild_meta_tensor_no_storage", Rebuild::kMeta},
    {"_rebuild_nested_tensor", Rebuild::kNested},
    {"_rebuild_wrapper_subclass", Rebuild::kWrapper},
    {"_rebuild_device_tensor_from_cpu_tensor", Rebuild::kDeviceFromCpu},
    {"_rebuild_from_type", Rebuild::kFromType},
    {"_rebuild_from_type_v2", Rebuild::kFromType},
}};

constexpr int kNesting = 8;  // Parameter around subclass around tensor; real files have three levels

bool is_tensor_class(std::string_view name) {
  return name.ends_with("Tensor") &&
         dtype_by_storage_class(std::string(name.substr(0, name.size() - 6)) + "Storage");
}

}  // namespace

Rebuild rebuild_of(const GlobalName& global) {
  if (global.module == "torch._utils" || global.module == "torch._tensor" ||
      global.module == "torch.tensor") {
    for (const auto& [name, kind] : kUtilsFunctions) {
      if (global.name == name) return kind;
    }
    return Rebuild::kNotATensor;
  }
  if (global.module == "collections" && global.name == "OrderedDict") return Rebuild::kOrderedDict;
  if ((global.module == "torch.nn.parameter" && global.name == "Parameter") ||
      (global.module == "torch.autograd.variable" && global.name == "Variable")) {
    return Rebuild::kParameterClass;
  }
  if ((global.module == "torch" || global.module == "torch.cuda") && is_tensor_class(global.name)) {
    return Rebuild::kLegacyTensor;
  }
  return Rebuild::kNotATensor;
}

void TensorCall::reset() {
  storage.reset();
  offset = 0;
  sizes.clear();
  strides.clear();
  dtype = Dtype::kUint8;
  layout = TensorLayout::kStrided;
  flags = 0;
  parts.clear();
  others.clear();
  dtype_from_values = false;
}

Error corrupt_at(const ValueGraph& graph, Use node, std::string message) {
  return Error(ErrorCode::kCorrupt, std::move(message))
      .at(graph.source_position(graph.at(node)) - graph.extent().offset);
}

Status check_id_items(const ValueGraph& graph, const StorageUse& use, std::uint8_t expected) {
  if (use.id_items == expected) return {};
  return corrupt_at(
      graph, use.persistent_id,
      fmt::format("the persistent id of a storage has {} items, expected {}", use.id_items, expected));
}

std::size_t metadata_index(Rebuild kind) {
  return kind == Rebuild::kTensorV3 ? 7 : 6;
}

std::vector<std::pair<Use, Use>> metadata_items(const ValueGraph& graph, Use metadata) {
  std::vector<std::pair<Use, Use>> items;
  std::vector<Use> group;  // the mapping, then keys and values by turns
  auto node = graph.resolve(metadata);
  while (graph.opcode(node) == Opcode::kSetitems || graph.opcode(node) == Opcode::kSetitem) {
    graph.children(node, group);
    for (std::size_t i = 1; i + 1 < group.size(); i += 2) items.emplace_back(group[i], group[i + 1]);
    node = group.front();
  }
  return items;
}

std::uint16_t lazy_flag_of(const ValueGraph& graph, Use key) {
  const auto name = graph.string_view(key);
  if (name == "conj") return kConjugate;
  if (name == "neg") return kNegative;
  return 0;
}

Error TensorReader::bad(Use node, std::string message) const {
  return corrupt_at(graph_, node, std::move(message));
}

Rebuild TensorReader::kind(Use callable) {
  const auto node = graph_.resolve(callable);
  if (node == last_callable_) return last_kind_;
  auto [found, is_new] = kinds_.try_emplace(node, Rebuild::kNotATensor);
  if (is_new) {
    if (const auto name = graph_.global(node)) found->second = rebuild_of(*name);
  }
  last_callable_ = node;
  last_kind_ = found->second;
  return last_kind_;
}

Result<bool> TensorReader::read(Use node, TensorCall& call) {
  const auto code = graph_.opcode(node);
  if (code != Opcode::kReduce && code != Opcode::kBuild) return false;
  if (read_alike(node, call)) return true;
  spelling_.opcodes.clear();  // it describes what `call` held
  call.reset();
  last_arguments_.clear();
  auto is_tensor = inner(node, call, kNesting);
  if (is_tensor.ok() && *is_tensor && !last_arguments_.empty()) remember_spelling(node, call);
  return is_tensor;
}

namespace {

bool is_small_integer(Opcode opcode) {
  return opcode == Opcode::kBinint1 || opcode == Opcode::kBinint2 || opcode == Opcode::kBinint ||
         opcode == Opcode::kLong1;
}

}  // namespace

void TensorReader::remember_spelling(Use node, const TensorCall& call) {
  constexpr std::size_t kLongest = 64;  // nodes; a usual tensor has about 24
  const auto start = graph_.start(node);
  const bool plain = call.parts.empty() && call.others.empty() && call.layout == TensorLayout::kStrided &&
                     call.storage && graph_.opcode(node) == Opcode::kReduce && node - start < kLongest &&
                     call.storage->view_offset == 0;
  if (!plain) return;
  Spelling made;
  const auto count = node - start + 1;
  made.varies.resize(count);
  bool inside = true;
  auto place = [&](Use use) {
    inside = inside && use >= start && use <= node;
    if (inside) made.varies[use - start] = true;
    return use - start;
  };
  std::vector<Use> items;
  auto places = [&](Use tuple, std::vector<std::uint32_t>& out) {
    inside = inside && tuple >= start && tuple <= node;
    graph_.children(tuple, items);
    for (const auto item : items) out.push_back(place(item));
  };
  made.key = place(call.storage->key);
  made.elements = place(call.storage->elements_use);
  made.offset = place(last_arguments_[1]);
  places(last_arguments_[2], made.sizes);
  places(last_arguments_[3], made.strides);
  made.persistent_id = call.storage->persistent_id - start;
  inside = inside && call.storage->persistent_id >= start && call.storage->persistent_id <= node;
  if (!inside) return;
  for (Use at = start; at <= node; ++at) {
    const bool repeats = graph_.repeats(at);
    // an operand that is neither read anew nor a repetition would have to be compared: such a value is read
    // in full
    if (!repeats && !made.varies[at - start] && opcode_info(graph_.opcode(at)).form != OperandForm::kNone)
      return;
    made.opcodes.push_back(graph_.opcode(at));
    made.repeated.push_back(repeats && !made.varies[at - start] ? graph_.repeated(at) : kNoUse);
  }
  spelling_ = std::move(made);
}

bool TensorReader::same_spelling(Use node, Use start) const {
  const auto count = spelling_.opcodes.size();
  if (node - start + 1 != count) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto at = static_cast<Use>(start + i);
    const auto opcode = graph_.opcode(at);
    if (opcode != spelling_.opcodes[i]) {
      if (!spelling_.varies[i] || !is_small_integer(opcode) || !is_small_integer(spelling_.opcodes[i]))
        return false;
    }
    if (spelling_.repeated[i] != kNoUse && graph_.repeated(at) != spelling_.repeated[i]) return false;
  }
  return true;
}

/// Precondition of the shortcut: `call` still holds what the tensor before said.
bool TensorReader::read_alike(Use node, TensorCall& call) {
  if (spelling_.opcodes.empty() || graph_.opcode(node) != Opcode::kReduce || !call.storage) return false;
  const auto start = graph_.start(node);
  if (!same_spelling(node, start)) return false;
  bool valid = true;
  auto number = [&](std::uint32_t place) {
    const auto value = graph_.integer(start + place);
    valid = valid && value && *value >= 0;
    return value.value_or(0);
  };
  call.storage->key = start + spelling_.key;
  call.storage->persistent_id = start + spelling_.persistent_id;
  call.storage->elements = static_cast<std::uint64_t>(number(spelling_.elements));
  call.storage->elements_use = start + spelling_.elements;
  call.offset = static_cast<std::uint64_t>(number(spelling_.offset));
  for (std::size_t i = 0; i < spelling_.sizes.size(); ++i) call.sizes[i] = number(spelling_.sizes[i]);
  for (std::size_t i = 0; i < spelling_.strides.size(); ++i) call.strides[i] = number(spelling_.strides[i]);
  return valid;  // what is odd is read in full, for its error
}

Result<bool> TensorReader::inner(Use use, TensorCall& call, int depth) {
  const auto node = graph_.resolve(use);
  if (depth == 0) return bad(node, "tensors are wrapped in each other too deeply");
  const auto code = graph_.opcode(node);
  if (code == Opcode::kBuild) {
    graph_.children(node, children_);
    const auto made = graph_.resolve(children_.front());
    const auto making = graph_.opcode(made);
    if (making != Opcode::kReduce && making != Opcode::kNewobj) return false;
    graph_.children(made, children_);
    const auto kind_made = kind(children_.front());
    if (kind_made != Rebuild::kLegacyTensor && kind_made != Rebuild::kParameterClass) return false;
    return read_legacy(node, kind_made, call);
  }
  if (code != Opcode::kReduce) return false;
  graph_.children(node, children_);
  if (children_.size() != 2) return false;
  const auto arguments = children_[1];
  const auto made = kind(children_[0]);
  return read_call(made, node, arguments, call, depth);
}

Result<bool> TensorReader::read_call(Rebuild made, Use node, Use arguments, TensorCall& call, int depth) {
  if (made == Rebuild::kNotATensor || made == Rebuild::kOrderedDict || made == Rebuild::kLegacyTensor)
    return false;
  graph_.children(graph_.resolve(arguments), args_);
  auto need = [&](std::size_t fewest, std::size_t most) -> Status {
    if (args_.size() >= fewest && args_.size() <= most) return {};
    return bad(node, fmt::format("a tensor is rebuilt from {} arguments, expected {} to {}", args_.size(),
                                 fewest, most));
  };
  switch (made) {
    case Rebuild::kTensor:
      CKPT_RETURN_IF_ERROR(need(4, 4));
      return read_dense(made, std::vector<Use>(args_), call);
    case Rebuild::kTensorV2:
      CKPT_RETURN_IF_ERROR(need(6, 7));
      last_arguments_ = args_;
      return read_dense(made, std::vector<Use>(args_), call);
    case Rebuild::kTensorV3:
      CKPT_RETURN_IF_ERROR(need(7, 8));
      return read_dense(made, std::vector<Use>(args_), call);
    case Rebuild::kQuantized:
      CKPT_RETURN_IF_ERROR(need(7, 7));
      return read_dense(made, std::vector<Use>(args_), call);
    case Rebuild::kParameter:
    case Rebuild::kParameterWithState: {
      const auto fewest = made == Rebuild::kParameter ? 3U : 4U;
      CKPT_RETURN_IF_ERROR(need(fewest, fewest));
      const auto args = args_;
      CKPT_ASSIGN_OR_RETURN(const bool is_tensor, inner(args[0], call, depth - 1));
      if (!is_tensor) return bad(node, "a Parameter is made of something that is no tensor");
      call.flags |= kIsParameter;
      if (graph_.boolean(args[1]).value_or(false)) call.flags |= kRequiresGrad;
      if (args.size() > 3) call.others.emplace_back(PartName::kState, args[3]);
      return true;
    }
    case Rebuild::kParameterClass: {
      CKPT_RETURN_IF_ERROR(need(1, 2));
      const auto args = args_;
      CKPT_ASSIGN_OR_RETURN(const bool is_tensor, inner(args[0], call, depth - 1));
      if (!is_tensor) return false;
      call.flags |= kIsParameter | kRequiresGrad;
      if (args.size() > 1 && !graph_.boolean(args[1]).value_or(true)) {
        call.flags = static_cast<std::uint16_t>(call.flags & ~unsigned{kRequiresGrad});
      }
      return true;
    }
    case Rebuild::kFromType: {
      CKPT_RETURN_IF_ERROR(need(4, 4));
      const auto args = args_;
      const auto function = kind(args[0]);
      if (function == Rebuild::kNotATensor) {
        call.layout = TensorLayout::kWrapper;
        call.others.emplace_back(PartName::kArguments, args[2]);
      } else {
        CKPT_ASSIGN_OR_RETURN(const bool is_tensor, read_call(function, node, args[2], call, depth - 1));
        if (!is_tensor) return false;
      }
      call.others.emplace_back(PartName::kState, args[3]);
      return true;
    }
    case Rebuild::kSparse:
      if (dialect_ == PickleDialect::kTorchScript) {
        CKPT_RETURN_IF_ERROR(need(6, 7));
        CKPT_RETURN_IF_ERROR(read_script_sparse(std::vector<Use>(args_), call));
        return true;
      }
      CKPT_RETURN_IF_ERROR(need(2, 2));
      CKPT_RETURN_IF_ERROR(read_sparse(std::vector<Use>(args_), call));
      return true;
    case Rebuild::kMeta: {
      CKPT_RETURN_IF_ERROR(need(4, 4));
      const auto args = args_;
      call.layout = TensorLayout::kMeta;
      CKPT_ASSIGN_OR_RETURN(call.dtype, read_dtype(args[0]));
      CKPT_RETURN_IF_ERROR(read_sizes(args[1], call.sizes, "size"));
      CKPT_RETURN_IF_ERROR(read_sizes(args[2], call.strides, "stride"));
      if (graph_.boolean(args[3]).value_or(false)) call.flags |= kRequiresGrad;
      return true;
    }
    case Rebuild::kNested:
      CKPT_RETURN_IF_ERROR(need(4, 4));
      call.layout = TensorLayout::kNested;
      call.dtype_from_values = true;
      call.parts = {{PartName::kBuffer, args_[0]},
                    {PartName::kSizes, args_[1]},
                    {PartName::kStrides, args_[2]},
                    {PartName::kOffsets, args_[3]}};
      return true;
    case Rebuild::kWrapper: {
      CKPT_RETURN_IF_ERROR(need(8, 8));
      const auto args = args_;
      call.layout = TensorLayout::kWrapper;
      CKPT_ASSIGN_OR_RETURN(call.dtype, read_dtype(args[1]));
      CKPT_RETURN_IF_ERROR(read_sizes(args[2], call.sizes, "size"));
      CKPT_RETURN_IF_ERROR(read_sizes(args[3], call.strides, "stride"));
      if (graph_.boolean(args[7]).value_or(false)) call.flags |= kRequiresGrad;
      return true;
    }
    case Rebuild::kDeviceFromCpu: {
      CKPT_RETURN_IF_ERROR(need(4, 4));
      return inner(Use(args_[0]), call, depth - 1);
    }
    default: return false;
  }
}

Result<bool> TensorReader::read_dense(Rebuild made, const std::vector<Use>& args, TensorCall& call) {
  CKPT_ASSIGN_OR_RETURN(call.storage, read_storage(args[0]));
  call.dtype = call.storage->dtype;
  CKPT_ASSIGN_OR_RETURN(call.offset, read_offset(args[1]));
  CKPT_RETURN_IF_ERROR(read_sizes(args[2], call.sizes, "size"));
  CKPT_RETURN_IF_ERROR(read_sizes(args[3], call.strides, "stride"));
  if (call.sizes.size() != call.strides.size()) {
    return bad(args[2],
               fmt::format("a tensor has {} sizes but {} strides", call.sizes.size(), call.strides.size()));
  }
  if (made == Rebuild::kQuantized) {
    call.layout = TensorLayout::kQuantized;
    CKPT_RETURN_IF_ERROR(read_quantizer(args[4], call));
    if (graph_.boolean(args[5]).value_or(false)) call.flags |= kRequiresGrad;
    return true;
  }
  if (args.size() > 4 && graph_.boolean(args[4]).value_or(false)) call.flags |= kRequiresGrad;
  if (made == Rebuild::kTensorV3) {
    CKPT_ASSIGN_OR_RETURN(call.dtype, read_dtype(args[6]));
  }
  const auto metadata = metadata_index(made);
  if (args.size() > metadata) read_flags(args[metadata], call);
  return true;
}

Result<bool> TensorReader::read_legacy(Use node, Rebuild made, TensorCall& call) {
  std::vector<Use> outer;
  graph_.children(node, outer);
  const auto state_node = graph_.resolve(outer[1]);
  std::vector<Use> state;
  graph_.children(state_node, state);
  if (made == Rebuild::kParameterClass) {
    CKPT_ASSIGN_OR_RETURN(const bool is_tensor, inner(outer[0], call, kNesting - 1));
    if (!is_tensor) return false;
    if (!state.empty() && !graph_.boolean(state[0]).value_or(true)) {
      call.flags = static_cast<std::uint16_t>(call.flags & ~unsigned{kRequiresGrad});
    }
    return true;
  }
  if (state.size() != 4) return false;
  return read_dense(Rebuild::kTensor, state, call);
}

Status TensorReader::read_sparse(const std::vector<Use>& args, TensorCall& call) {
  std::vector<Use> items;
  graph_.children(graph_.resolve(args[1]), items);
  call.dtype_from_values = true;
  // COO: indices, values, size[, is_coalesced]; compressed layouts: two index tensors, values, size. A
  // fourth item that is a size tells them apart.
  const bool compressed = items.size() == 4 && !graph_.boolean(items[3]) && !graph_.is_none(items[3]);
  if (items.size() < 3 || items.size() > 4) {
    return bad(args[1], fmt::format("a sparse tensor has {} components, expected 3 or 4", items.size()));
  }
  if (compressed) {
    call.layout = TensorLayout::kSparseCompressed;
    call.parts = {{PartName::kCompressedIndices, items[0]},
                  {PartName::kPlainIndices, items[1]},
                  {PartName::kValues, items[2]}};
    return read_sizes(items[3], call.sizes, "size");
  }
  call.layout = TensorLayout::kSparseCoo;
  call.parts = {{PartName::kIndices, items[0]}, {PartName::kValues, items[1]}};
  return read_sizes(items[2], call.sizes, "size");
}

Status TensorReader::read_script_sparse(const std::vector<Use>& args, TensorCall& call) {
  call.dtype_from_values = true;
  const bool compressed = args.size() == 7;
  if (compressed) {
    call.layout = TensorLayout::kSparseCompressed;
    call.parts = {{PartName::kCompressedIndices, args[3]},
                  {PartName::kPlainIndices, args[4]},
                  {PartName::kValues, args[5]}};
  } else {
    call.layout = TensorLayout::kSparseCoo;
    call.parts = {{PartName::kIndices, args[3]}, {PartName::kValues, args[4]}};
  }
  if (graph_.boolean(args[2]).value_or(false)) call.flags |= kRequiresGrad;
  return read_sizes(args[1], call.sizes, "size");
}

Status TensorReader::read_quantizer(Use quantizer, TensorCall& call) {
  std::vector<Use> items;
  graph_.children(graph_.resolve(quantizer), items);
  if (items.size() == 4) {  // per channel: scheme, scales, zero points, axis; lists in very old files
    for (const auto& [part, use] :
         {std::pair{PartName::kScales, items[1]}, std::pair{PartName::kZeroPoints, items[2]}}) {
      if (graph_.opcode(graph_.resolve(use)) == Opcode::kReduce) call.parts.emplace_back(part, use);
    }
    return {};
  }
  if (items.size() == 3) return {};
  return bad(quantizer, fmt::format("a quantizer has {} items, expected 3 or 4", items.size()));
}

void TensorReader::read_flags(Use metadata, TensorCall& call) const {
  for (const auto& [key, value] : metadata_items(graph_, metadata)) call.flags |= lazy_flag_of(graph_, key);
}

Status TensorReader::read_sizes(Use use, std::vector<std::int64_t>& out, const char* what) {
  out.clear();
  auto node = graph_.resolve(use);
  if (graph_.opcode(node) == Opcode::kReduce) {  // torch.Size((…),)
    graph_.children(node, children_);
    const auto arguments = graph_.resolve(children_.back());
    graph_.children(arguments, children_);
    if (children_.size() != 1) return bad(node, fmt::format("a tensor's {} is no tuple of integers", what));
    node = graph_.resolve(children_.front());
  }
  graph_.children(node, children_);
  constexpr std::size_t kLargestRank = 255;  // PyTorch's own limit is 64
  if (children_.size() > kLargestRank)
    return bad(node, fmt::format("a tensor has {} dimensions", children_.size()));
  for (const auto child : children_) {
    const auto number = graph_.integer(child);
    if (!number || *number < 0)
      return bad(child, fmt::format("a tensor's {} holds something that is no size", what));
    out.push_back(*number);
  }
  return {};
}

Result<std::uint64_t> TensorReader::read_offset(Use use) {
  const auto number = graph_.integer(use);
  if (!number || *number < 0) return bad(use, "a tensor's storage offset is no number from 0 on");
  return static_cast<std::uint64_t>(*number);
}

Result<Dtype> TensorReader::read_dtype(Use use) {
  const auto name = graph_.global(use);
  const auto dtype = name ? dtype_by_name(name->name) : std::nullopt;
  if (!dtype) return bad(use, fmt::format("unknown dtype {}", name ? quoted(name->name) : "of a tensor"));
  return *dtype;
}

std::optional<Dtype> TensorReader::storage_dtype(std::string_view storage_class) const {
  if (dialect_ == PickleDialect::kTorchScript) return dtype_by_script_storage_class(storage_class);
  return dtype_by_storage_class(storage_class);
}

Result<StorageUse> TensorReader::read_storage(Use persistent_id) {
  StorageUse use;
  use.persistent_id = graph_.resolve(persistent_id);
  if (graph_.opcode(use.persistent_id) != Opcode::kBinpersid)
    return bad(persistent_id, "a tensor has no storage");
  graph_.children(use.persistent_id, children_);
  const auto id = graph_.resolve(children_.front());
  graph_.children(id, children_);
  if (children_.size() < 5 || children_.size() > 6 || graph_.string_view(children_[0]) != "storage") {
    return bad(id, "a persistent id is no reference to a storage");
  }
  use.id_items = static_cast<std::uint8_t>(children_.size());
  const auto class_node = graph_.resolve(children_[1]);
  auto [known, is_new] = storage_classes_.try_emplace(class_node, std::nullopt);
  const auto name = graph_.global(class_node);
  if (!name) return bad(class_node, "a storage without a class");
  use.storage_class = name->name;
  use.untyped = name->name.ends_with("UntypedStorage");
  if (is_new) known->second = use.untyped ? Dtype::kUint8 : storage_dtype(name->name);
  if (!known->second) return bad(class_node, fmt::format("unknown storage class {}", quoted(name->name)));
  use.dtype = *known->second;
  use.key = children_[2];
  use.location = children_[3];
  const auto elements = graph_.integer(children_[4]);
  if (!elements || *elements < 0) return bad(children_[4], "a storage's size is no number from 0 on");
  use.elements = static_cast<std::uint64_t>(*elements);
  use.elements_use = children_[4];
  if (children_.size() == 6 && !graph_.is_none(children_[5])) {
    std::vector<Use> view;
    graph_.children(graph_.resolve(children_[5]), view);
    if (view.size() != 3) return bad(children_[5], "a view of a storage has no offset");
    const auto offset = graph_.integer(view[1]);
    const auto length = graph_.integer(view[2]);
    if (!offset || *offset < 0) return bad(children_[5], "a view of a storage has no offset");
    if (!length || *length < 0) return bad(children_[5], "a view of a storage has no size");
    use.view_offset = static_cast<std::uint64_t>(*offset);
    use.view = StorageView{view[0], static_cast<std::uint64_t>(*length)};
  }
  return use;
}

}  // namespace ckpt
