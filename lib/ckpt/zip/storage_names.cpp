// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/storage_names.h"

#include <algorithm>

#include "ckpt/zip/name_index.h"

namespace ckpt {
namespace {

constexpr std::string_view kFolder = "data/";

// A checkpoint has seven records that are no storages; searching 64 one by one is quicker than an index.
constexpr std::size_t kFew = 64;

bool plainly_storage(const EntryTable& table, const ZipEntry& entry) {
  return entry.below_root && table.name(entry).starts_with(kFolder);
}

bool has_capital(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

bool is_storage_name(std::string_view name) {
  return equal_folded(name.substr(0, kFolder.size()), kFolder);
}

std::optional<std::vector<RecordId>> few_besides_storages(const EntryTable& table) {
  std::vector<RecordId> few;
  for (RecordId record = 0; record < table.entries.size(); ++record) {
    if (plainly_storage(table, table.entries[record])) continue;  // nearly all
    const auto key = name_key(table, record);
    if (key.below_root && is_storage_name(key.name)) continue;
    if (few.size() == kFew) return std::nullopt;
    few.push_back(record);
  }
  return few;
}

bool storage_names_ascend(const EntryTable& table) {
  bool as_strings = true;
  bool as_numbers = true;
  std::string_view previous;
  for (RecordId record = 0; record < table.entries.size() && (as_strings || as_numbers); ++record) {
    const bool plain = plainly_storage(table, table.entries[record]);
    const auto key = plain ? NameKey{table.name(record), true} : name_key(table, record);
    if (!plain && !(key.below_root && is_storage_name(key.name))) continue;
    if (!plain || has_capital(key.name)) return false;
    as_strings = as_strings && previous < key.name;
    as_numbers = as_numbers && (previous.size() < key.name.size() ||
                                (previous.size() == key.name.size() && previous < key.name));
    previous = key.name;
  }
  return as_strings || as_numbers;
}

}  // namespace ckpt
