// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/ties.h"

#include <algorithm>
#include <compare>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

namespace ckpt {
namespace {

/// Orders tensors by what they show: equal ones are tied.
class ByView {
 public:
  ByView(const Checkpoint& checkpoint, const StateDict& dict) : checkpoint_(checkpoint), dict_(dict) {}

  std::weak_ordering compare(std::uint32_t left, std::uint32_t right) const {
    const auto& a = checkpoint_.tensors[dict_.entries[left].tensor];
    const auto& b = checkpoint_.tensors[dict_.entries[right].tensor];
    if (const auto order = a.storage <=> b.storage; order != 0) return order;
    if (const auto order = a.offset <=> b.offset; order != 0) return order;
    if (const auto order = a.dtype <=> b.dtype; order != 0) return order;
    if (const auto order = in_order(checkpoint_.shape(a), checkpoint_.shape(b)); order != 0) return order;
    if (a.has(kContiguous) && b.has(kContiguous)) return std::weak_ordering::equivalent;
    const auto strides_a = checkpoint_.strides(a);
    const auto strides_b = checkpoint_.strides(b);
    return in_order(strides_a, strides_b);
  }

 private:
  static std::weak_ordering in_order(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
    return std::lexicographical_compare_three_way(a.begin(), a.end(), b.begin(), b.end());
  }

  const Checkpoint& checkpoint_;
  const StateDict& dict_;
};

/// As in nearly every file: a storage each, in the order of the keys.
bool each_has_its_own(const Checkpoint& checkpoint, const StateDict& dict,
                      const std::vector<std::uint32_t>& plain) {
  const auto storage = [&](std::uint32_t entry) {
    return checkpoint.tensors[dict.entries[entry].tensor].storage;
  };
  return std::adjacent_find(plain.begin(), plain.end(), [&](std::uint32_t a, std::uint32_t b) {
           return storage(a) >= storage(b);
         }) == plain.end();
}

}  // namespace

std::vector<std::uint32_t> first_of_ties(const Checkpoint& checkpoint, const StateDict& dict) {
  std::vector<std::uint32_t> first(dict.entries.size());
  std::iota(first.begin(), first.end(), 0U);
  std::unordered_map<Use, std::uint32_t> objects;
  std::vector<std::uint32_t> plain;
  for (std::uint32_t i = 0; i < dict.entries.size(); ++i) {
    if (dict.entries[i].tensor == kNoIndex) continue;
    const auto& tensor = checkpoint.tensors[dict.entries[i].tensor];
    if (tensor.has(kIsParameter) && tensor.use != kNoUse) {
      first[i] = objects.emplace(checkpoint.graph().resolve(tensor.use), i).first->second;
    } else if (tensor.storage != kNoIndex && checkpoint.numel(tensor) > 0) {
      plain.push_back(i);
    }
  }
  if (each_has_its_own(checkpoint, dict, plain)) return first;
  const ByView view(checkpoint, dict);
  std::sort(plain.begin(), plain.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto order = view.compare(a, b);
    return order != 0 ? order < 0 : a < b;
  });
  for (std::size_t i = 1; i < plain.size(); ++i) {
    if (view.compare(plain[i - 1], plain[i]) == 0) first[plain[i]] = first[plain[i - 1]];
  }
  return first;
}

std::vector<TensorId> left_behind(const Checkpoint& checkpoint) {
  const auto& graph = checkpoint.graph();
  std::unordered_set<StorageId> storages;
  std::unordered_set<Use> objects;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    if (!row.has(kReplaced) || row.use == kNoUse) continue;
    storages.insert(checkpoint.original(id).storage);
    objects.insert(graph.resolve(row.use));
  }
  std::vector<TensorId> out;
  if (storages.empty()) return out;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    const bool outside = row.state_dict == kNoIndex && row.use != kNoUse && row.storage != kNoIndex;
    if (outside && storages.contains(row.storage) && !objects.contains(graph.resolve(row.use)))
      out.push_back(id);
  }
  return out;
}

}  // namespace ckpt
