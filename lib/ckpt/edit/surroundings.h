// SPDX-License-Identifier: BSD-3-Clause
// What stands around the rows of the tensor table, as far as edits of storages have to know it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/edit/edits.h"

namespace ckpt {

/// Why PyTorch can't load a plain tensor of `dtype` that requires a gradient; nothing where it can. Those
/// without a storage class of their own are made of bytes, and then are no leaves. What TorchScript holds is
/// no object.
std::optional<std::string> gradient_obstacle(const Checkpoint& checkpoint, Dtype dtype);

class Surroundings {
 public:
  explicit Surroundings(const EditContext& context);

  /// Will the row be in the output, as far as keys and the choice of a root tell? (A dropped entry may still
  /// hold it.)
  bool is_kept(TensorId tensor) const { return kept_[tensor]; }

  /// Does whoever loads the file use the tensor itself, as optimizers and modules do, rather than copy its
  /// values?
  bool is_used_in_place(TensorId tensor) const { return in_place_[tensor]; }

 private:
  std::vector<bool> kept_;
  std::vector<bool> in_place_;
};

}  // namespace ckpt
