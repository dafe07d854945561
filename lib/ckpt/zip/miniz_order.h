// SPDX-License-Identifier: BSD-3-Clause
// Which of several records with one name torch reads. Its reader (miniz) sorts the names with a heap sort,
// which keeps no order among equals, and finds one with a binary search, which hits any of them; so the
// answer depends on all the names of the archive, and only the same steps give it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/zip/entry_table.h"

namespace ckpt {

class MinizOrder {
 public:
  /// Is the archive small enough for it? Sorting costs half a second at most then.
  static bool feasible(const EntryTable& table);

  explicit MinizOrder(const EntryTable& table);

  /// The record that miniz finds for the whole name `full_name`, ignoring the case of ASCII letters.
  std::optional<RecordId> find(std::string_view full_name) const;

 private:
  void sort();
  void sift_down(std::size_t root, std::size_t end);

  bool less(RecordId a, RecordId b) const { return names_[a] < names_[b]; }

  std::vector<std::string> names_;  // folded
  std::vector<RecordId> sorted_;
};

}  // namespace ckpt
