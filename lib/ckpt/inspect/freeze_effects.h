// SPDX-License-Identifier: BSD-3-Clause
// What follows from a freeze once it is decided which parameters train: sums, memory, and what moves in spite
// of it. Each function fills its part of the report.
#pragma once

#include "ckpt/inspect/freeze.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

inline bool is_parameter(const FreezeEntry& entry) {
  return entry.role.kind == RoleKind::kParameter;
}

/// `group` of the entries, `groups`, `total`.
void count_groups(const Checkpoint& checkpoint, const FreezeGrouping& grouping, FreezeReport& report);

/// `memory`. Precondition: `total` is there.
void count_memory(OptimizerKind optimizer, FreezeReport& report);

/// Appends to `conflicts` frozen parameters that share bytes with others which train.
void find_overlaps(const Checkpoint& checkpoint, FreezeReport& report);

/// `moving`. Precondition: `total` is there.
void find_moving_statistics(const Checkpoint& checkpoint, FreezeReport& report);

}  // namespace ckpt
