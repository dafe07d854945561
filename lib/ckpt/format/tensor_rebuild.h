// SPDX-License-Identifier: BSD-3-Clause
// How PyTorch spells tensors in pickles: calls of torch._utils._rebuild_* and their kin. Reads the call's
// arguments; resolves and calls nothing. Sources: torch/_utils.py, torch/_tensor.py, torch/storage.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/pickle/value_graph.h"

namespace ckpt {

/// The functions and classes that make tensors.
enum class Rebuild : std::uint8_t {
  kNotATensor,
  kTensor,              ///< _rebuild_tensor(storage, offset, size, stride)
  kTensorV2,            ///< + requires_grad, hooks[, metadata]
  kTensorV3,            ///< + dtype before metadata; storage untyped
  kParameter,           ///< (tensor, requires_grad, hooks)
  kParameterWithState,  ///< + state
  kParameterClass,      ///< Parameter(tensor), BUILD (requires_grad, volatile, hooks)
  kFromType,            ///< (func, type, args, state)
  kSparse,              ///< (layout, (indices, values, size[, coalesced])) and the compressed layouts;
                        ///< TorchScript: (layout, size, requires_grad, indices…, values, hooks)
  kQuantized,           ///< (storage, offset, size, stride, quantizer, requires_grad, hooks)
  kMeta,                ///< (dtype, size, stride, requires_grad)
  kNested,              ///< (buffer, sizes, strides, offsets)
  kWrapper,             ///< (cls, dtype, size, stride, offset, layout, device, requires_grad)
  kDeviceFromCpu,       ///< (cpu tensor, dtype, device, requires_grad)
  kLegacyTensor,        ///< torch.FloatTensor NEWOBJ or REDUCE, BUILD (storage, offset, size, stride)
  kOrderedDict,         ///< not a tensor, but met as often
};

Rebuild rebuild_of(const GlobalName& name);

/// What a persistent id of the legacy stream says about a part of a storage, besides its offset.
struct StorageView {
  Use key = kNoUse;  ///< names the part, not a storage of the list
  std::uint64_t elements = 0;
};

/// A reference to a storage: the operand of a BINPERSID.
struct StorageUse {
  Use persistent_id = kNoUse;       ///< node of the BINPERSID
  std::string_view storage_class;   ///< "FloatStorage", without its module
  Use key = kNoUse;                 ///< string or integer
  Use location = kNoUse;            ///< string: "cpu", "cuda:0"
  Use elements_use = kNoUse;        ///< where `elements` stands
  std::uint64_t elements = 0;       ///< of the class's dtype; bytes where it is untyped
  std::uint64_t view_offset = 0;    ///< elements; legacy views of a root storage
  std::optional<StorageView> view;  ///< legacy: the use is a part of the storage, from view_offset on
  std::uint8_t id_items = 0;        ///< of the persistent id
  bool untyped = false;
  Dtype dtype = Dtype::kUint8;
};

/// kCorrupt at the byte of `node` in its pickle.
Error corrupt_at(const ValueGraph& graph, Use node, std::string message);

/// kCorrupt where a storage's persistent id has another number of items than the container's loaders unpack.
Status check_id_items(const ValueGraph& graph, const StorageUse& use, std::uint8_t expected);

/// Where metadata stand among the arguments of a call that makes a dense tensor, if it has any.
std::size_t metadata_index(Rebuild kind);

/// Keys and values of a tensor's metadata, an argument of the calls that make dense tensors.
std::vector<std::pair<Use, Use>> metadata_items(const ValueGraph& graph, Use metadata);

/// What an item of the metadata does: kConjugate, kNegative or 0. PyTorch asks for the key alone, and not for
/// its value (setTensorMetadata in torch/csrc/jit/serialization/pickler.h).
std::uint16_t lazy_flag_of(const ValueGraph& graph, Use key);

/// What a rebuild call says, before its storage is looked up. Sizes and strides are in `dimensions`.
struct TensorCall {
  std::optional<StorageUse> storage;
  std::uint64_t offset = 0;  ///< elements
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
  Dtype dtype = Dtype::kUint8;
  TensorLayout layout = TensorLayout::kStrided;
  std::uint16_t flags = 0;
  std::vector<std::pair<PartName, Use>> parts;   ///< tensors this one is made of
  std::vector<std::pair<PartName, Use>> others;  ///< values that came along and may hold tensors: states
  bool dtype_from_values = false;  ///< sparse and nested: the dtype is that of the `values` or `buffer` part

  void reset();
};

/// Who wrote a pickle. TorchScript's C++ pickler has a storage class for every dtype, and another order of
/// arguments for sparse tensors.
enum class PickleDialect : std::uint8_t { kPython, kTorchScript };

inline PickleDialect dialect_of(const Checkpoint& checkpoint) {
  return checkpoint.format == FormatId::kTorchScript ? PickleDialect::kTorchScript : PickleDialect::kPython;
}

/// Reads calls of one graph; remembers which nodes name which function.
class TensorReader {
 public:
  TensorReader(const ValueGraph& graph, PickleDialect dialect) : graph_(graph), dialect_(dialect) {}

  /// What the callable used at `use` is.
  Rebuild kind(Use callable);

  /// Is the finished value `node` a tensor? Then `call` says what it is. One reader fills one `call`, again
  /// and again: where a tensor is spelled like the one before, what they share is left as it stands. Errors:
  /// kCorrupt for a known function with arguments it can't take.
  Result<bool> read(Use node, TensorCall& call);

  /// Errors: kCorrupt for a persistent id that names no storage.
  Result<StorageUse> read_storage(Use persistent_id);

 private:
  /// How the tensor before was spelled. Most tensors of a file are spelled alike, node for node: then only
  /// the operands that differ are read.
  struct Spelling {
    std::vector<Opcode> opcodes;  ///< of the value's range; empty: no spelling is known
    std::vector<Use> repeated;    ///< by node: what it repeats, kNoUse where it repeats nothing
    std::vector<bool> varies;     ///< by node: an operand that is read anew
    std::uint32_t key = 0;        ///< places in the range
    std::uint32_t elements = 0;
    std::uint32_t offset = 0;
    std::uint32_t persistent_id = 0;
    std::vector<std::uint32_t> sizes;
    std::vector<std::uint32_t> strides;
  };

  void remember_spelling(Use node, const TensorCall& call);
  bool same_spelling(Use node, Use start) const;
  bool read_alike(Use node, TensorCall& call);
  Result<bool> read_call(Rebuild kind, Use node, Use arguments, TensorCall& call, int depth);
  Result<bool> read_dense(Rebuild kind, const std::vector<Use>& args, TensorCall& call);
  Result<bool> read_legacy(Use node, Rebuild kind, TensorCall& call);
  Status read_sparse(const std::vector<Use>& args, TensorCall& call);
  Status read_script_sparse(const std::vector<Use>& args, TensorCall& call);
  std::optional<Dtype> storage_dtype(std::string_view storage_class) const;
  Status read_quantizer(Use quantizer, TensorCall& call);
  void read_flags(Use metadata, TensorCall& call) const;
  Result<bool> inner(Use tensor, TensorCall& call, int depth);
  Status read_sizes(Use tuple, std::vector<std::int64_t>& out, const char* what);
  Result<std::uint64_t> read_offset(Use use);
  Result<Dtype> read_dtype(Use use);
  Error bad(Use node, std::string message) const;

  const ValueGraph& graph_;
  PickleDialect dialect_;
  Spelling spelling_;
  std::vector<Use> last_arguments_;  ///< of the last _rebuild_tensor_v2
  std::unordered_map<Use, Rebuild> kinds_;
  Use last_callable_ = kNoUse;
  Rebuild last_kind_ = Rebuild::kNotATensor;
  std::unordered_map<Use, std::optional<Dtype>> storage_classes_;
  std::vector<Use> children_;
  std::vector<Use> args_;
};

}  // namespace ckpt
