// SPDX-License-Identifier: BSD-3-Clause
// Tensors that a TorchScript module uses in several places: under two keys, or as a key and in another
// attribute, as an LSTM keeps its weights in a list, too. A new value has to reach all of them, as it would
// if it were copied into the loaded tensor.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

class SharedTensors {
 public:
  /// Finds those of the document that an edit replaced. Errors: kUnsupported for keys that are one attribute,
  /// of a module that stands in two places, and would be different tensors.
  Status find(const Checkpoint& checkpoint);

  /// Does the object used at `use` change, for all who use it?
  bool changes_as_one(Use use) const;
  /// The same, of an object that can't change where it is made. Its keys get tensors of their own then.
  /// Errors: kUnsupported where something that is no key would keep the old one.
  Status separate(Use use);

 private:
  struct Object {
    TensorId row = kNoIndex;       ///< of the first key that was replaced
    std::unordered_set<Use> keys;  ///< uses that are keys
    bool elsewhere = false;        ///< there are others
    bool as_one = true;            ///< all keys get one view
  };

  Status add_key(TensorId id);
  Status check(const Object& object) const;
  bool same_view(const TensorInfo& a, const TensorInfo& b) const;

  const Checkpoint* checkpoint_ = nullptr;
  std::unordered_map<Use, Object> objects_;  ///< by finished value
};

}  // namespace ckpt
