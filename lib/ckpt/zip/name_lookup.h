// SPDX-License-Identifier: BSD-3-Clause
// Finding records by name, as torch's reader finds them. Cheap for who asks in the order of the file: an
// index over all names is built only when something else is asked.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "ckpt/zip/entry_table.h"
#include "ckpt/zip/miniz_order.h"
#include "ckpt/zip/name_index.h"

namespace ckpt {

/// Safe for several threads. The table must outlive it.
class NameLookup {
 public:
  /// `has_rivals`: some names are equal but for the case of letters, so it matters how torch searches.
  NameLookup(const EntryTable& table, bool has_rivals);

  /// The record `name` below the root.
  std::optional<RecordId> find(std::string_view name) const;

 private:
  std::optional<RecordId> find_next(std::string_view name) const;
  std::optional<RecordId> find_among_few(std::string_view name) const;
  std::optional<RecordId> find_by_index(std::string_view name) const;
  void build_index() const;

  const EntryTable& table_;
  bool has_rivals_;
  std::optional<std::vector<RecordId>> few_;  // those not below "data/", where they are a handful
  mutable std::atomic<RecordId> next_{0};     // the record behind the one found last
  mutable std::once_flag built_;
  mutable std::unique_ptr<NameIndex> index_;
  mutable std::unique_ptr<MinizOrder> order_;
};

}  // namespace ckpt
