// SPDX-License-Identifier: BSD-3-Clause
// Storages with equal bytes become one. Size and CRC-32 say which may be equal, a comparison of all bytes
// says which are.
//
// Tensors on one storage change together when one of them is changed in place. Who loads a state dict copies
// its values; an optimizer and a module go on with the tensors of the file. So these are left as they are.
#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "ckpt/base/crc32.h"
#include "ckpt/edit/conversions.h"
#include "ckpt/edit/storage_bytes.h"
#include "ckpt/edit/surroundings.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kChunk = std::uint64_t{1} << 20U;
constexpr std::size_t kMostCompared = 8;  // storages of one checksum and different bytes: nobody has so many

class Deduplication {
 public:
  explicit Deduplication(EditContext& context)
      : checkpoint_(context.checkpoint),
        around_(context),
        report_(*context.report.conversion),
        ties_equal_views_(context.ties_equal_views),
        first_user_(checkpoint_.storages.size(), kNoIndex),
        twins_(checkpoint_.storages.size()) {
    std::iota(twins_.begin(), twins_.end(), 0U);
  }

  Status run() {
    for (const auto& [kind, storages] : candidates()) {
      if (storages.size() < 2) continue;
      std::map<std::uint32_t, std::vector<StorageId>> by_checksum;
      for (const auto storage : storages) {
        CKPT_ASSIGN_OR_RETURN(const auto sum, checksum(storage));
        by_checksum[sum].push_back(storage);
      }
      for (const auto& [sum, alike] : by_checksum) CKPT_RETURN_IF_ERROR(find_twins(alike));
    }
    std::stable_sort(report_.deduped.begin(), report_.deduped.end(),
                     [](const auto& a, const auto& b) { return a.order < b.order; });
    if (!report_.deduped.empty()) checkpoint_.merge_storages(twins_);
    return {};
  }

 private:
  /// What has to be equal besides the bytes: their number, dtype, whether they are counted in bytes, device,
  /// and the shape where no two shapes can see the same bytes.
  using Kind = std::tuple<std::uint64_t, Dtype, bool, std::uint16_t, std::vector<std::int64_t>>;

  std::map<Kind, std::vector<StorageId>> candidates() {
    std::vector<bool> set_aside(checkpoint_.storages.size());
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) {
      const auto storage = checkpoint_.tensors[id].storage;
      if (storage == kNoIndex || !around_.is_kept(id)) continue;
      if (first_user_[storage] == kNoIndex) first_user_[storage] = id;
      if (around_.is_used_in_place(id)) set_aside[storage] = true;
    }
    std::map<Kind, std::vector<StorageId>> found;
    for (StorageId id = 0; id < checkpoint_.storages.size(); ++id) {
      const auto& storage = checkpoint_.storages[id];
      if (first_user_[id] == kNoIndex || set_aside[id] || storage.bytes == 0) continue;
      if (!data_of(checkpoint_, id).ok()) continue;  // compressed: its record stays what it is
      const auto& user = checkpoint_.tensors[first_user_[id]];
      std::vector<std::int64_t> shape;
      if (ties_equal_views_) {
        const auto sizes = checkpoint_.shape(user);
        shape.assign(sizes.begin(), sizes.end());
      }
      found[{storage.bytes, user.dtype, storage.untyped, storage.device, std::move(shape)}].push_back(id);
    }
    return found;
  }

  Result<std::uint32_t> checksum(StorageId id) const {
    CKPT_ASSIGN_OR_RETURN(const auto data, data_of(checkpoint_, id));
    if (data.crc32) return *data.crc32;
    const auto placed = source_of(checkpoint_, data);
    std::uint32_t sum = 0;
    Bytes chunk;
    for (std::uint64_t at = 0; at < data.size(); at += chunk.size()) {
      chunk.resize(std::min(kChunk, data.size() - at));
      CKPT_RETURN_IF_ERROR(placed.source->read_at(placed.offset + at, chunk));
      sum = crc32(sum, chunk);
    }
    return sum;
  }

  Result<bool> equal(StorageId a, StorageId b) const {
    CKPT_ASSIGN_OR_RETURN(const auto first_data, data_of(checkpoint_, a));
    CKPT_ASSIGN_OR_RETURN(const auto second_data, data_of(checkpoint_, b));
    const auto first = source_of(checkpoint_, first_data);
    const auto second = source_of(checkpoint_, second_data);
    Bytes ours;
    Bytes theirs;
    for (std::uint64_t at = 0; at < first_data.size(); at += ours.size()) {
      ours.resize(std::min(kChunk, first_data.size() - at));
      theirs.resize(ours.size());
      CKPT_RETURN_IF_ERROR(first.source->read_at(first.offset + at, ours));
      CKPT_RETURN_IF_ERROR(second.source->read_at(second.offset + at, theirs));
      if (ours != theirs) return false;
    }
    return true;
  }

  /// Among storages of one kind and checksum; the first of equal ones stays.
  Status find_twins(const std::vector<StorageId>& alike) {
    std::vector<std::pair<StorageId, SameStorages>> groups;
    for (const auto storage : alike) {
      bool found = false;
      for (auto& [first, group] : groups) {
        CKPT_ASSIGN_OR_RETURN(found, equal(first, storage));
        if (!found) continue;
        twins_[storage] = first;
        group.tensors.push_back(path_of(storage));
        break;
      }
      if (!found && groups.size() < kMostCompared)
        groups.push_back(
            {storage, {{path_of(storage)}, checkpoint_.storages[storage].bytes, first_user_[storage]}});
    }
    for (auto& [first, group] : groups) {
      if (group.tensors.size() > 1) report_.deduped.push_back(std::move(group));
    }
    return {};
  }

  std::string path_of(StorageId storage) const {
    const auto& row = checkpoint_.tensors[first_user_[storage]];
    return row.place == kNoIndex ? std::string(row.name) : checkpoint_.path(row.place);
  }

  Checkpoint& checkpoint_;
  Surroundings around_;
  ConversionReport& report_;
  bool ties_equal_views_;
  std::vector<TensorId> first_user_;  ///< by storage
  std::vector<StorageId> twins_;      ///< by storage
};

}  // namespace

Status dedupe_storages(EditContext& context) {
  return Deduplication(context).run();
}

}  // namespace ckpt
