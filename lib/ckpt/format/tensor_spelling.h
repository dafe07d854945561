// SPDX-License-Identifier: BSD-3-Clause
// Spelling rows of the tensor table that edits changed, as pickles of PyTorch do: the inverse of
// tensor_rebuild. A replaced row changes only the arguments that differ, so that what wraps the tensor stays.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/shared_tensors.h"
#include "ckpt/format/tensor_rebuild.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/pickle/encoder.h"
#include "ckpt/pickle/node_set.h"

namespace ckpt {

/// How a container refers to storages.
struct StorageSpelling {
  std::vector<std::string> added_keys;             ///< of added storages, by index into `added_data`
  bool has_view_item = false;                      ///< the persistent id ends with view metadata (legacy)
  PickleDialect dialect = PickleDialect::kPython;  ///< in whose manner new values are written
};

class TensorSpeller {
 public:
  /// Both must outlive this.
  TensorSpeller(const Checkpoint& checkpoint, const StorageSpelling& storages);

  /// The call that makes a plain tensor of the row: _rebuild_tensor_v2, or _v3 where its storage is untyped.
  NewValue spell(const TensorInfo& row) const;

  /// What becomes of other uses of an object that is respelled.
  enum class OtherUses : std::uint8_t { kStay, kFollow };

  /// Edits that turn the tensor used at `use` into that of the row. Where something else stands there, or
  /// other uses of the same object are to stay what they are, the whole value is replaced. An object of
  /// TorchScript changes for all who use it. Errors: kUnsupported where some of them would keep the old one.
  Status respell(const TensorInfo& row, Use use, GraphEdits& edits, OtherUses others = OtherUses::kStay);

  /// Edits that lay the tensor at the row's use where the row says, as values of its dtype. All that use the
  /// same object see them. Errors: kInternal for a row without a storage; kUnsupported for a dtype that a
  /// tensor of a class of its own (torch.FloatTensor) can't have, and where arguments that have to change are
  /// those of other tensors, too.
  Status relocate(const TensorInfo& row, GraphEdits& edits);

 private:
  /// A call that makes a tensor from a storage, below all that wraps it.
  struct DenseCall {
    Use use = kNoUse;                     ///< the outermost value that can be replaced without losing more
    Rebuild kind = Rebuild::kNotATensor;  ///< kNotATensor: nothing inside can be changed
    std::vector<Use> arguments;
    Use function = kNoUse;  ///< these three where others may use the tensor, too
    Use tuple = kNoUse;     ///< of the arguments
    Use dtype = kNoUse;     ///< where a call around it names the dtype once more
    bool has_shared_arguments = false;
  };

  NewValue spell(const TensorInfo& row, bool requires_grad) const;
  NewValue spell_whole(const TensorInfo& row) const;
  void respell_arguments(const TensorInfo& row, const DenseCall& call, GraphEdits& edits) const;
  DenseCall innermost(Use use, OtherUses others);
  DenseCall call_with_storage(Use use);
  void respell_place(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const;
  Status drop_lazy_bits(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const;
  Status respell_dtype(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const;
  void respell_function(const DenseCall& call, const TensorInfo& row, GraphEdits& edits) const;
  bool asks_too_much(Use use, const TensorInfo& row);
  bool is_shared(Use use) const;
  bool fits(const DenseCall& call, const TensorInfo& row);
  bool same_storage(const Storage& storage) const;
  bool is_untyped(StorageId storage) const;

  bool is_script() const { return spelling_.dialect == PickleDialect::kTorchScript; }

  NewValue number(std::uint64_t value) const;
  NewValue sizes(std::span<const std::int64_t> values) const;
  std::vector<Use> operands(Use node) const;
  NewValue persistent_id(StorageId storage) const;

  const Checkpoint& checkpoint_;
  const ValueGraph& graph_;
  const StorageSpelling& spelling_;
  TensorReader reader_;
  TensorCall old_;        ///< what the call says that is respelled
  NodeSet repeated_;      ///< nodes that a GET repeats
  SharedTensors shared_;  ///< TorchScript: those that change for all who use them
  bool knows_shared_ = false;
};

}  // namespace ckpt
