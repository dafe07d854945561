// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/name_lookup.h"

#include "ckpt/zip/storage_names.h"

namespace ckpt {

NameLookup::NameLookup(const EntryTable& table, bool has_rivals)
    : table_(table), has_rivals_(has_rivals), few_(few_besides_storages(table)) {}

std::optional<RecordId> NameLookup::find(std::string_view name) const {
  if (has_rivals_) return find_by_index(name);
  auto found = find_next(name);
  if (!found) found = few_ && !is_storage_name(name) ? find_among_few(name) : find_by_index(name);
  if (found) next_.store(*found + 1, std::memory_order_relaxed);
  return found;
}

std::optional<RecordId> NameLookup::find_next(std::string_view name) const {
  const auto record = next_.load(std::memory_order_relaxed);
  if (record >= table_.entries.size()) return std::nullopt;
  const auto& entry = table_.entries[record];
  if (entry.below_root == table_.has_root && table_.name(entry) == name) return record;
  return std::nullopt;
}

std::optional<RecordId> NameLookup::find_among_few(std::string_view name) const {
  for (const auto record : *few_) {
    const auto key = name_key(table_, record);
    if (key.below_root == table_.has_root && equal_folded(key.name, name)) return record;
  }
  return std::nullopt;
}

std::optional<RecordId> NameLookup::find_by_index(std::string_view name) const {
  std::call_once(built_, [this] { build_index(); });
  if (!order_) return index_->find({name, table_.has_root});
  auto full = table_.has_root ? table_.root + "/" : std::string();
  return order_->find(full.append(name));
}

/// Where names are equal and the archive is too large to sort as miniz does, the last one stands for them.
void NameLookup::build_index() const {
  if (has_rivals_ && MinizOrder::feasible(table_)) {
    order_ = std::make_unique<MinizOrder>(table_);
    return;
  }
  index_ = std::make_unique<NameIndex>(table_);
  index_->insert_all(NameIndex::Keep::kLast, {});
}

}  // namespace ckpt
