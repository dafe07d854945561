// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/shared_views.h"

#include <algorithm>
#include <cstdint>

namespace ckpt {
namespace {

/// A row with the bytes of its storage that it reaches.
struct Area {
  StorageId storage;
  Extent extent;
  std::size_t row;
};

class ViewGroups {
 public:
  ViewGroups(const Checkpoint& checkpoint, std::span<const NamedRow> rows)
      : checkpoint_(checkpoint), rows_(rows) {}

  SharedViews run() {
    collect();
    for (std::size_t begin = 0; begin < areas_.size();) {
      const auto end = end_of_cluster(begin);
      if (end - begin > 1) divide(begin, end);
      begin = end;
    }
    return std::move(shared_);
  }

 private:
  const TensorInfo& tensor(std::size_t row) const { return checkpoint_.tensors[rows_[row].tensor]; }

  void collect() {
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      const auto& info = tensor(row);
      if (info.storage == kNoIndex || checkpoint_.numel(info) == 0) continue;
      areas_.push_back({info.storage, checkpoint_.view_extent(info), row});
    }
    std::sort(areas_.begin(), areas_.end(), [&](const Area& a, const Area& b) {
      if (a.storage != b.storage) return a.storage < b.storage;
      if (a.extent.offset != b.extent.offset) return a.extent.offset < b.extent.offset;
      if (a.extent.size != b.extent.size) return a.extent.size < b.extent.size;
      return rows_[a.row].name < rows_[b.row].name;
    });
  }

  /// Behind the last area that is connected to the one at `begin`.
  std::size_t end_of_cluster(std::size_t begin) const {
    auto reach = areas_[begin].extent.end();
    auto end = begin + 1;
    for (; end < areas_.size() && areas_[end].storage == areas_[begin].storage &&
           areas_[end].extent.offset < reach;
         ++end)
      reach = std::max(reach, areas_[end].extent.end());
    return end;
  }

  void divide(std::size_t begin, std::size_t end) {
    std::vector<std::vector<std::size_t>> views;
    for (auto i = begin; i < end; ++i) {
      const auto row = areas_[i].row;
      const auto known = std::find_if(views.begin(), views.end(), [&](const auto& view) {
        return same_view(tensor(view.front()), tensor(row));
      });
      if (known != views.end()) {
        known->push_back(row);
      } else {
        if (!views.empty()) shared_.overlaps.push_back(std::minmax(views.back().front(), row));
        views.push_back({row});
      }
    }
    for (auto& view : views) {
      if (view.size() < 2) continue;
      std::sort(view.begin(), view.end(), [&](auto a, auto b) { return rows_[a].name < rows_[b].name; });
      shared_.ties.push_back(std::move(view));
    }
  }

  bool same_view(const TensorInfo& a, const TensorInfo& b) const {
    return a.offset == b.offset && a.dtype == b.dtype && a.has(kConjugate) == b.has(kConjugate) &&
           a.has(kNegative) == b.has(kNegative) &&
           std::ranges::equal(checkpoint_.shape(a), checkpoint_.shape(b)) &&
           checkpoint_.strides(a) == checkpoint_.strides(b);
  }

  const Checkpoint& checkpoint_;
  std::span<const NamedRow> rows_;
  std::vector<Area> areas_;
  SharedViews shared_;
};

}  // namespace

SharedViews find_shared_views(const Checkpoint& checkpoint, std::span<const NamedRow> rows) {
  return ViewGroups(checkpoint, rows).run();
}

}  // namespace ckpt
