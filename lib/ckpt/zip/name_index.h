// SPDX-License-Identifier: BSD-3-Clause
// Names of an archive under the comparison that torch's reader makes: ASCII letters are equal in either case.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/zip/entry_table.h"

namespace ckpt {

/// `text` with A-Z as a-z, and nothing else changed.
std::string folded(std::string_view text);
bool equal_folded(std::string_view a, std::string_view b);

/// What a record is looked up by: its name below the root, or its full name.
struct NameKey {
  std::string_view name;
  bool below_root = false;

  friend bool operator==(NameKey a, NameKey b) {
    return a.below_root == b.below_root && equal_folded(a.name, b.name);
  }
};

/// The key of an entry. Also below the root is what lies below it when case is ignored: 'A/version' in root
/// 'a'.
NameKey name_key(const EntryTable& table, RecordId record);

/// A hash table over a table's entries. The hash is keyed with random numbers of this process, so names
/// can't be chosen to collide. 12 to 24 bytes an entry.
class NameIndex {
 public:
  enum class Keep : std::uint8_t { kFirst, kLast };  ///< which of several with equal keys

  explicit NameIndex(const EntryTable& table);

  /// Adds all entries. `on_equal(kept, other)` is told of an entry whose key is there already; it may be
  /// empty.
  void insert_all(Keep keep, const std::function<void(RecordId, RecordId)>& on_equal);
  std::optional<RecordId> find(NameKey key) const;

 private:
  struct Slot {
    std::uint32_t tag = 0;            // high half of the hash: spares comparing names
    std::uint32_t record_plus_1 = 0;  // 0: free
  };

  std::size_t slot_of(NameKey key, std::uint64_t hash) const;

  const EntryTable& table_;
  std::vector<Slot> slots_;  // a power of two, at most two thirds full
};

}  // namespace ckpt
