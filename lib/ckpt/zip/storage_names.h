// SPDX-License-Identifier: BSD-3-Clause
// The common shape of a checkpoint's names, which spares an index over a million of them: "data/…" in
// ascending order, and a handful of others.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "ckpt/zip/entry_table.h"

namespace ckpt {

/// Does `name`, below the root, start with "data/" in any case?
bool is_storage_name(std::string_view name);

/// The records that are no storages by their names; nothing if there are more than 64 of them.
std::optional<std::vector<RecordId>> few_besides_storages(const EntryTable& table);

/// Do the storages' names ascend, as numbers (PyTorch since 2.7) or as strings (before), without capital
/// letters? Then no two of them are equal in any case.
bool storage_names_ascend(const EntryTable& table);

}  // namespace ckpt
