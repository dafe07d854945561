// SPDX-License-Identifier: BSD-3-Clause
// What a look at the tables tells beyond the numbers: wrapper prefixes, tied tensors, storages larger than
// their views, device tags, globals that weights_only refuses. Ids are listed in docs/reference/findings.md.
#pragma once

#include <optional>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/export.h"
#include "ckpt/inspect/summary.h"
#include "ckpt/inspect/tensor_statistics.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/weights_only.h"

namespace ckpt {

/// `fix` holds the word FILE where the input's name belongs, and OUT for an output.
CKPT_EXPORT std::vector<Finding> find_remarks(const Checkpoint& checkpoint,
                                              const TensorsByStorage& by_storage,
                                              const std::vector<GlobalUse>& globals);

/// Which of `tensors` have values that are no finite numbers, by their statistics; nothing where none has.
CKPT_EXPORT std::optional<Finding> find_odd_values(const Checkpoint& checkpoint,
                                                   const std::vector<TensorId>& tensors,
                                                   const std::vector<TensorStatistics>& statistics);

}  // namespace ckpt
