// SPDX-License-Identifier: BSD-3-Clause
// What a checkpoint file holds, whatever its container: tensors, the storages they view, the state dicts
// that name them, and where everything else sits. No tensor bytes.
//
// The table of tensors is the truth for tensors, the document for all else. Edits go through the mutators and
// know no spelling and no offset; the format's writer spells what changed.
#pragma once

#include <complex>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/flat_map.h"
#include "ckpt/model/data_ref.h"
#include "ckpt/model/part.h"
#include "ckpt/model/storage.h"
#include "ckpt/model/tensor_info.h"

namespace ckpt {

enum class FormatId : std::uint8_t {
  kTorchZip,
  kTorchLegacy,
  kSafetensors,
  kTorchScript,
  kOldTorchScript,  ///< of PyTorch 1.0 to 1.3: a JSON document instead of a pickle
};

/// Is it a module with its code? Keys are attributes there, and a state dict can be taken out, not put in.
constexpr bool holds_script(FormatId format) {
  return format == FormatId::kTorchScript || format == FormatId::kOldTorchScript;
}

/// One step of a path, seen from its parent.
enum class StepKind : std::uint8_t {
  kRoot,       ///< the root of the document
  kItem,       ///< `step` is the node of a mapping's key
  kIndex,      ///< `step` is an index of a list, tuple or set
  kAttribute,  ///< `step` is the node of an attribute's name
  kPart,       ///< `step` is a PartName; for arguments, 256 × the argument's index is added
  kName,       ///< containers without documents: `step` is a TensorId, whose name is the path
};

/// Parts of composite values and of objects that no attribute names.
enum class PartName : std::uint8_t {
  kIndices,
  kValues,
  kCompressedIndices,
  kPlainIndices,
  kScales,
  kZeroPoints,
  kBuffer,
  kSizes,
  kStrides,
  kOffsets,
  kArguments,
  kState,
  kKey,
};

struct Place {
  PlaceId parent = kNoIndex;
  std::uint32_t step = 0;
  StepKind kind = StepKind::kRoot;
  std::uint8_t document = 0;  ///< of the part, whose nodes steps are; 1: the constants of TorchScript code
};

/// A value that is no tensor and holds none: a number, a string, an object nobody knows, an empty container.
struct Entry {
  PlaceId place = kNoIndex;
  Use use = kNoUse;
};

/// A mapping found in the file, as far as it matters for what counts as a state dict.
struct Mapping {
  PlaceId place = kNoIndex;
  Use use = kNoUse;                         ///< its finished value
  std::uint32_t parent_mapping = kNoIndex;  ///< index of the mapping around it, or kNoIndex
  std::uint32_t tensors = 0;                ///< tensors that are values of it
  std::uint32_t extra_states = 0;           ///< values under keys that end in _extra_state
  std::uint32_t others = 0;                 ///< values that are neither
  bool string_keys = true;
  bool reached_by_strings = true;  ///< from the root through string keys of mappings alone
  bool is_optimizer = false;       ///< has both `state` and `param_groups`
  bool in_optimizer = false;       ///< sits in such a mapping
};

/// A key of a state dict, with its value.
struct StateDictEntry {
  Use key =
      kNoUse;  ///< kNoUse in containers without documents, of packed layers, and where an edit inserted it
  Use value = kNoUse;
  TensorId tensor = kNoIndex;     ///< kNoIndex for an _extra_state or a module's value that is no tensor
  std::uint32_t name = kNoIndex;  ///< of a module's value, among the checkpoint's strings
};

/// A module of a state dict that a whole nn.Module gives. One that is used twice is two of them.
struct Module {
  PlaceId place = kNoIndex;
  Use use = kNoUse;                     ///< perhaps a GET
  std::uint32_t parent = kNoIndex;      ///< the module around it; those of a state dict begin with their root
  std::uint32_t state_dict = kNoIndex;  ///< whose keys it gives; kNoIndex in one of the inner modules
  std::string_view name;                ///< in the module around it
  std::string_view prefix;              ///< of its keys: "layer1.0."
};

/// A mapping whose keys commands edit. `path` is "" when it is the root of the file.
struct StateDict {
  PlaceId place = kNoIndex;
  Use mapping = kNoUse;
  std::vector<StateDictEntry> entries;  ///< in file order
  bool of_module = false;  ///< a whole module stands here; keys are what its state_dict() would give
  bool is_opaque =
      false;  ///< a module in it keeps keys that no file shows: packed weights, an unknown object
  bool mixed_root = false;  ///< the root, with tensors and other values: those are carried
};

/// The view that a row gets by an edit: of a storage that is there, or of an added one.
struct TensorView {
  Dtype dtype = Dtype::kFloat32;
  StorageId storage = kNoIndex;
  std::uint64_t offset = 0;  ///< first element, in elements of dtype
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< elements; empty for C order
  bool requires_grad = false;         ///< of inserted rows; replaced ones keep what they have
  bool made_anew = false;             ///< what an optimizer knows of the old values is of no use
};

/// What became of one state-dict key.
struct KeyChange {
  bool dropped = false;
  std::string_view name;  ///< new name, one of the checkpoint's strings; unused if dropped
};

/// A value of the document that moves, with all that it holds.
struct KeptValue {
  Use use = kNoUse;
};

/// A tensor that no state dict names: a row made by `add_tensor`.
struct MadeTensor {
  TensorId row = kNoIndex;
};

/// A value that an edit writes in the place of another one.
using PlainValue =
    std::variant<std::int64_t, std::string, double, bool, std::complex<double>, KeptValue, MadeTensor>;

class CKPT_EXPORT Checkpoint {
 public:
  FormatId format = FormatId::kTorchZip;
  std::vector<Part> parts;
  std::vector<TensorInfo> tensors;  ///< in document order; a composite's parts follow it
  std::vector<std::int64_t> dimensions;
  std::vector<Storage> storages;    ///< those of the file, then those that edits added
  std::vector<DataRef> added_data;  ///< the bytes of the latter
  std::vector<Place> places;
  std::vector<Entry> entries;
  std::vector<Mapping> mappings;
  std::vector<StateDict> state_dicts;
  std::vector<StateDict>
      inner_modules;                 ///< below lists and attributes: state dicts only where --root says so
  std::vector<Module> modules;       ///< of both, parents before children
  std::vector<std::string> devices;  ///< tags as written: "cpu", "cuda:0"
  std::deque<std::string> strings;   ///< owns names that no document spells as they are
  /// `__metadata__` of containers without documents, in file order.
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::pair<std::string, std::uint64_t>>
      unreferenced_storages;  ///< name and bytes: no tensor views them
  std::string writer;  ///< what its layout tells about who wrote it: "PyTorch 2.7 or later"; may be empty
  bool big_endian = false;

  bool has_document() const { return !parts.front().documents.empty(); }

  const Document& document() const { return *parts.front().documents.front(); }

  const ValueGraph& graph() const { return document().graph; }

  /// The graph whose nodes the steps of `place` are.
  const ValueGraph& graph_of(const Place& place) const {
    return parts.front().documents[place.document]->graph;
  }

  // ---- reading
  std::span<const std::int64_t> shape(const TensorInfo& tensor) const {
    return {dimensions.data() + tensor.dimensions_at, tensor.rank};
  }

  /// Strides in elements, also where they are not stored.
  std::vector<std::int64_t> strides(const TensorInfo& tensor) const;
  /// The same into a vector that is used again.
  void strides(const TensorInfo& tensor, std::vector<std::int64_t>& out) const;
  /// Elements; saturates instead of overflowing.
  std::uint64_t numel(const TensorInfo& tensor) const;
  /// numel × item size, the bytes of the values; saturates.
  std::uint64_t bytes(const TensorInfo& tensor) const;
  /// Bytes of a sub-byte quantised tensor: each row of the last dimension is padded to whole bytes.
  std::uint64_t storage_bytes_of_packed(const TensorInfo& tensor) const;
  /// The range of storage bytes the view touches; empty for tensors without elements.
  Extent view_extent(const TensorInfo& tensor) const;
  /// The path from the root, as docs/reference describes it.
  std::string path(PlaceId place) const;
  /// The paths of all that goes when `place` becomes the root: what stands beside it, and beside what it lies
  /// in.
  std::vector<std::string> paths_around(PlaceId place) const;
  void append_path(std::string& out, PlaceId place) const;  ///< precondition: `out` is empty
  /// Does an optimizer's state stand there (a mapping with `state` and `param_groups`)?
  bool is_optimizer_place(PlaceId place) const;
  /// Current name of a state dict's key, after the edits so far.
  std::string name(std::uint32_t state_dict, std::uint32_t entry) const;
  /// Its name in the file.
  std::string original_name(std::uint32_t state_dict, std::uint32_t entry) const;

  /// The row as the file has it, whatever edits made of it.
  const TensorInfo& original(TensorId tensor) const;

  /// Index of `tag` among the device tags, added if new.
  std::uint16_t intern_device(std::string_view tag);

  // ---- the mutators
  /// The key gets another name. Precondition: `name` is free; plans check.
  void rename(std::uint32_t state_dict, std::uint32_t entry, std::string name);
  /// The key and its value go.
  void drop(std::uint32_t state_dict, std::uint32_t entry);
  /// The key keeps its place and gets another tensor. What wraps the old one (a Parameter, a subclass) stays
  /// where no other key shares it. Precondition: the view lies in its storage; plans check.
  void replace(std::uint32_t state_dict, std::uint32_t entry, const TensorView& view);
  /// A new key behind the last one. Preconditions: `name` is free and the view lies in its storage.
  void insert(std::uint32_t state_dict, std::string name, const TensorView& view);

  /// The row's values lie in `storage`, from element `offset` on and with `strides` (empty: C order). All
  /// else stays as it is. Precondition: the bytes are the same, and rows that are one object move alike.
  void relocate(TensorId tensor, StorageId storage, std::uint64_t offset,
                const std::vector<std::int64_t>& strides);
  /// The same with values of `dtype`, which lie in `storage` as they were cast. Without a document the row
  /// counts as replaced.
  void recast(TensorId tensor, Dtype dtype, StorageId storage, std::uint64_t offset,
              const std::vector<std::int64_t>& strides);
  /// No bit negates or conjugates the row's bytes from now on: they are its values. Precondition: the row is
  /// relocated or recast.
  void resolve_lazy_bits(TensorId tensor);
  /// Whatever uses a storage uses its twin from now on. `twins`: by storage, itself where it stays.
  /// Preconditions: bytes, dtype and device are the same; a twin stays, and is no added one unless the
  /// storage is one.
  void merge_storages(const std::vector<StorageId>& twins);
  /// Whatever uses the storage says that it lay on `device`.
  void set_device(StorageId storage, std::string_view device);
  /// A row for a tensor that no state dict names, to be written with `replace_value`.
  TensorId add_tensor(const TensorView& view);

  /// A storage for `replace` and `insert`, whose bytes come from `data`. One that nothing views in the end is
  /// not written. Returns its row.
  StorageId add_storage(DataRef data, Dtype dtype, std::string_view device = "cpu");

  /// Drops a value outside the tensor table: the item of a mapping or a list. `key` is kNoUse for list items.
  void drop_value(Use key, Use value) { dropped_values_.emplace_back(key, value); }

  /// The state dict becomes the root of the file: all that is not in it goes. Paths of places stay those of
  /// the file as it was read.
  void set_root(std::uint32_t state_dict) { new_root_ = state_dict; }

  /// The new root, or the root as it is, goes without `_metadata`.
  void drop_metadata() { without_metadata_ = true; }

  bool without_metadata() const { return without_metadata_; }

  /// The state dict that an edit made the root, or kNoIndex.
  std::uint32_t new_root() const { return new_root_; }

  bool has_new_root() const { return new_root_ != kNoIndex; }

  /// Is the state dict part of the output, as far as the choice of a root tells?
  bool holds(std::uint32_t state_dict) const { return !has_new_root() || state_dict == new_root_; }

  /// A module goes, and one of its children takes its place wherever the file uses it. Both are rows of
  /// `modules`. The keys have to be renamed besides.
  void unwrap(std::uint32_t module, std::uint32_t child) { unwrapped_.emplace_back(module, child); }

  const std::vector<std::pair<std::uint32_t, std::uint32_t>>& unwrapped() const { return unwrapped_; }

  /// Writes a plain value where a value stands that is no tensor: an item, or the key of one.
  void replace_value(Use use, PlainValue value);

  /// The mapping that the node `maker` makes is made as a dict: its items stay, its class goes.
  void make_dict(Use maker) { dicts_made_.push_back(maker); }

  /// The document has to be one that `torch.load(weights_only=True)` can read; its writer sees to the
  /// opcodes.
  void require_weights_only() { weights_only_ = true; }

  bool requires_weights_only() const { return weights_only_; }

  bool edited() const {
    return !changes_.empty() || !dropped_values_.empty() || !replaced_values_.empty() || has_new_rows_ ||
           has_new_root() || !unwrapped_.empty() || storages_respelled() || !dicts_made_.empty() ||
           weights_only_;
  }

  /// Was a row replaced, inserted or relocated?
  bool has_new_rows() const { return has_new_rows_; }

  /// Are uses of storages to read otherwise, whoever uses them?
  bool storages_respelled() const { return storages_merged_ || devices_change_; }

  /// Do tensors go, come or change? Else only names do.
  bool tensors_change() const;

  bool is_dropped(std::uint32_t state_dict, std::uint32_t entry) const;

  /// By state dict and entry.
  using KeyChanges = FlatMap<std::pair<std::uint32_t, std::uint32_t>, KeyChange>;

  const KeyChanges& changes() const { return changes_; }

  const std::vector<std::pair<Use, Use>>& dropped_values() const { return dropped_values_; }

  const std::vector<std::pair<Use, PlainValue>>& replaced_values() const { return replaced_values_; }

  const std::vector<Use>& dicts_made() const { return dicts_made_; }

 private:
  void append_step(std::string& out, const Place& step) const;
  void set_view(TensorId tensor, const TensorView& view, TensorFlag how);
  TensorId add_row(std::string_view name, std::uint32_t state_dict);

  KeyChanges changes_;
  std::vector<std::pair<Use, Use>> dropped_values_;
  std::vector<std::pair<Use, PlainValue>> replaced_values_;
  std::vector<Use> dicts_made_;
  std::unordered_map<TensorId, TensorInfo> originals_;              ///< of rows that were replaced
  std::vector<std::pair<std::uint32_t, std::uint32_t>> unwrapped_;  ///< module, its child
  std::uint32_t new_root_ = kNoIndex;                               ///< a state dict
  bool has_new_rows_ = false;  ///< some row was replaced, inserted or relocated
  bool storages_merged_ = false;
  bool devices_change_ = false;
  bool weights_only_ = false;
  bool without_metadata_ = false;
};

}  // namespace ckpt
