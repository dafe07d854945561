// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/miniz_order.h"

#include <numeric>
#include <utility>

#include "ckpt/zip/name_index.h"

namespace ckpt {
namespace {

constexpr std::size_t kMaxEntries = 1 << 17;
constexpr std::size_t kMaxNameBytes = 1 << 24;

}  // namespace

bool MinizOrder::feasible(const EntryTable& table) {
  if (table.entries.size() > kMaxEntries) return false;
  std::size_t bytes = 0;
  for (const auto& entry : table.entries) bytes += entry.full_name_size;
  return bytes <= kMaxNameBytes;
}

MinizOrder::MinizOrder(const EntryTable& table) : sorted_(table.entries.size()) {
  names_.reserve(table.entries.size());
  for (const auto& entry : table.entries) names_.push_back(folded(table.full_name(entry)));
  std::iota(sorted_.begin(), sorted_.end(), RecordId{0});
  sort();
}

void MinizOrder::sort() {
  const auto size = sorted_.size();
  if (size < 2) return;
  for (auto root = (size - 2) / 2 + 1; root-- > 0;) sift_down(root, size);
  for (auto end = size - 1; end > 0; --end) {
    std::swap(sorted_[0], sorted_[end]);
    sift_down(0, end);
  }
}

/// Restores the heap below `root`, the larger child first, the left one of equals.
void MinizOrder::sift_down(std::size_t root, std::size_t end) {
  for (auto child = 2 * root + 1; child < end; child = 2 * root + 1) {
    if (child + 1 < end && less(sorted_[child], sorted_[child + 1])) ++child;
    if (!less(sorted_[root], sorted_[child])) return;
    std::swap(sorted_[root], sorted_[child]);
    root = child;
  }
}

std::optional<RecordId> MinizOrder::find(std::string_view full_name) const {
  const auto name = folded(full_name);
  std::size_t low = 0;
  std::size_t high = sorted_.size();  // one behind
  while (low < high) {
    const auto middle = low + (high - 1 - low) / 2;
    const auto order = names_[sorted_[middle]].compare(name);
    if (order == 0) return sorted_[middle];
    if (order < 0) low = middle + 1;
    if (order > 0) high = middle;
  }
  return std::nullopt;
}

}  // namespace ckpt
