// SPDX-License-Identifier: BSD-3-Clause
// What is merged into one state dict of the base: which keys there are and how they fit is the same for every
// merge, what becomes of a tensor is not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/merge_import.h"
#include "ckpt/edit/merge_offers.h"

namespace ckpt {

class DictMerge {
 public:
  /// All must outlive this.
  DictMerge(const MergeTensors& edit, EditContext& context, EditedStateDict& dict, Offers& offers,
            Importer& importer);
  virtual ~DictMerge() = default;
  DictMerge(const DictMerge&) = delete;
  DictMerge& operator=(const DictMerge&) = delete;

  /// Errors: kNotFound where a file has nothing for the base; kRefused where keys, shapes or dtypes differ
  /// and no option decides; kUnsupported for tensors whose values can't be had.
  Status run();

 protected:
  /// A tensor of the base that some other has.
  virtual Status take(EditedKey& key) = 0;

  /// A tensor of the base that no other has.
  virtual Status lonely(EditedKey& /*key*/) { return {}; }

  /// A key that only others have, with --keys union.
  virtual Status add(const std::string& name) = 0;

  bool all_have(const std::string& name) const;
  Shape shape_of(const Checkpoint& checkpoint, const TensorInfo& tensor) const;
  /// Do the shapes agree, or may the other's come? Else the mismatch is noted and the base's tensor stays.
  bool fits_or_goes(const EditedKey& key, const Offered& offered);
  /// The strides that a new tensor in the place of `ours` has: the base's where they are dense; empty is C
  /// order.
  Shape strides_for(const TensorInfo& ours, Dtype dtype, bool fits) const;
  /// kUnsupported for a plain tensor of `dtype` that PyTorch could not load, as `tensor` requires a gradient.
  Status check_gradient(const TensorInfo& tensor, Dtype dtype) const;
  std::string device_of(const TensorInfo& ours) const;
  /// The other's tensor in the place of the base's.
  Status replace(EditedKey& key, const Offered& offered, Dtype dtype);
  /// Behind the last key. `report` lists it as added.
  void insert(const std::string& name, const TensorView& view);
  Status add_from(const Offered& offered, const std::string& name, Dtype dtype);
  void note_mismatch(const std::string& name, Shape theirs, Shape ours);

  const MergeTensors& edit_;
  EditContext& context_;
  Checkpoint& base_;
  EditedStateDict& dict_;
  Offers& offers_;
  Importer& importer_;
  StateDictReport& report_;
  std::optional<Error> other_dtype_;  ///< the first one, where it decides

 private:
  void compare_keys();
  Status check_equal() const;
  Status check_matches() const;
  Status check_mismatches() const;
  Status add_unknown();
  void drop_lonely();
  void report();

  std::vector<std::string> missing_;     ///< keys of the base that no other has
  std::vector<std::string> unexpected_;  ///< keys that only others have
  std::vector<ShapeMismatch> mismatched_;
};

}  // namespace ckpt
