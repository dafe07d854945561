// SPDX-License-Identifier: BSD-3-Clause
// A sorted vector that is used as a map: for keys that mostly come in ascending order.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

namespace ckpt {

template <typename Key, typename Value>
class FlatMap {
 public:
  using Item = std::pair<Key, Value>;

  auto begin() const { return items_.begin(); }

  auto end() const { return items_.end(); }

  bool empty() const { return items_.empty(); }

  std::size_t size() const { return items_.size(); }

  auto lower_bound(const Key& key) const {
    if (items_.empty() || items_.back().first < key) return items_.end();
    return std::lower_bound(items_.begin(), items_.end(), key, comes_before);
  }

  auto find(const Key& key) const {
    const auto found = lower_bound(key);
    return found != items_.end() && found->first == key ? found : items_.end();
  }

  /// Constant time for a key behind all others, else linear.
  void insert_or_assign(const Key& key, Value value) {
    const auto at = items_.begin() + (lower_bound(key) - items_.begin());
    if (at != items_.end() && at->first == key) {
      at->second = std::move(value);
    } else {
      items_.insert(at, {key, std::move(value)});
    }
  }

  void erase(const Key& key) {
    const auto found = find(key);
    if (found != items_.end()) items_.erase(found);
  }

 private:
  static bool comes_before(const Item& item, const Key& key) { return item.first < key; }

  std::vector<Item> items_;
};

}  // namespace ckpt
