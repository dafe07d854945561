// SPDX-License-Identifier: BSD-3-Clause
// What the state of an optimizer tells about its parameters. PyTorch counts them by position; names are there
// where it was built with named parameters, or by FSDP.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

struct OptimizerParameters {
  std::unordered_set<std::string> names;  ///< as its groups list them; mostly empty
  /// Through all groups, in order: the shape of each parameter as its state shows it, or nothing.
  std::vector<std::optional<std::vector<std::int64_t>>> shapes;
  std::size_t groups = 0;  ///< of several, each is in the model's order, and their sequence need not be
};

/// One for each optimizer of the file, in file order; of more than `kMostOptimizers`, which no training has,
/// the first.
CKPT_EXPORT std::vector<OptimizerParameters> optimizer_parameters(const Checkpoint& checkpoint);

inline constexpr std::size_t kMostOptimizers = 64;

}  // namespace ckpt
