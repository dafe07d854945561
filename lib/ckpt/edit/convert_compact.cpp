// SPDX-License-Identifier: BSD-3-Clause
// Views become tensors with storages of their own. One that lies in its storage without gaps, in whatever
// order, is a range of bytes, which the kernel copies; any other is gathered into C order when it is written.
// Tensors on the same bytes stay on the same bytes; what overlaps otherwise is separated.
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/edit/conversions.h"
#include "ckpt/edit/storage_bytes.h"
#include "ckpt/edit/surroundings.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::uint64_t kMost = std::uint64_t{1} << 62U;  // bytes that an output may ask for

class Compaction {
 public:
  explicit Compaction(EditContext& context)
      : checkpoint_(context.checkpoint), around_(context), report_(*context.report.conversion) {}

  CompactReport find_views() const {
    CompactReport report;
    report.bytes_before = bytes_in_use();
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) report.tensors += is_view(id) ? 1U : 0U;
    return report;
  }

  Status run() {
    const auto count = static_cast<TensorId>(checkpoint_.tensors.size());
    for (TensorId id = 0; id < count; ++id) {
      if (is_view(id)) CKPT_RETURN_IF_ERROR(give_storage(id));
    }
    checkpoint_.parts.push_back({gathered_, {}, {}});  // storages without bytes are in it, too
    report_.compacted->bytes_after = bytes_in_use();
    return {};
  }

 private:
  /// By storage and what of it: first byte, shape, strides, dtype. A range of bytes has the shape {size}.
  using Key = std::tuple<StorageId, std::uint64_t, Shape, Shape, Dtype>;

  std::uint64_t bytes_in_use() const {
    std::set<StorageId> used;
    std::uint64_t bytes = 0;
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) {
      const auto storage = checkpoint_.tensors[id].storage;
      if (storage != kNoIndex && around_.is_kept(id) && used.insert(storage).second)
        bytes += checkpoint_.storages[storage].bytes;
    }
    return bytes;
  }

  bool is_view(TensorId id) const {
    const auto& row = checkpoint_.tensors[id];
    return row.storage != kNoIndex && around_.is_kept(id) && !has_storage_of_its_own(row);
  }

  bool is_dense(const TensorInfo& row) const {
    if (dtype_info(row.dtype).values_per_item > 1) return row.has(kContiguous);
    return dense_order(checkpoint_.shape(row), checkpoint_.strides(row)).has_value();
  }

  bool has_storage_of_its_own(const TensorInfo& row) const {
    if (checkpoint_.format == FormatId::kSafetensors && !row.has(kReplaced) && !row.has(kInserted))
      return true;
    if (!is_dense(row)) return dtype_info(row.dtype).values_per_item > 1;  // those can't be taken apart
    return row.offset == 0 && checkpoint_.bytes(row) == checkpoint_.storages[row.storage].bytes;
  }

  Status give_storage(TensorId id) {
    const auto row = checkpoint_.tensors[id];  // a copy: the row changes
    const auto bytes = checkpoint_.bytes(row);
    added_ = checked_add(added_, bytes).value_or(kMost);
    if (added_ >= kMost) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("tensor {} views its storage so often that it can't have one of its own",
                               quoted_path(checkpoint_.path(row.place))));
    }
    auto data = data_of(checkpoint_, row.storage);
    if (!data.ok()) {
      return Error(data.error().code(), fmt::format("tensor {}: {}", quoted_path(checkpoint_.path(row.place)),
                                                    data.error().message()));
    }
    if (is_dense(row)) {
      const auto strides = row.has(kContiguous) ? Shape() : checkpoint_.strides(row);
      checkpoint_.relocate(id, range_of(row, *data, bytes), 0, strides);
    } else {
      checkpoint_.relocate(id, gathered(row, *data), 0, {});
    }
    return {};
  }

  StorageId range_of(const TensorInfo& row, const DataRef& data, std::uint64_t bytes) {
    const auto begin = row.offset * dtype_info(row.dtype).item_size;
    const auto storage = made_.try_emplace(
        Key{row.storage, begin, {static_cast<std::int64_t>(bytes)}, {}, row.dtype}, kNoIndex);
    if (storage.second) storage.first->second = add(row, part_of(data, begin, bytes));
    return storage.first->second;
  }

  StorageId gathered(const TensorInfo& row, const DataRef& data) {
    const auto sizes = checkpoint_.shape(row);
    Shape shape(sizes.begin(), sizes.end());
    auto strides = checkpoint_.strides(row);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1) strides[i] = 0;  // any would do
    }
    const auto begin = row.offset * dtype_info(row.dtype).item_size;
    const auto storage = made_.try_emplace(Key{row.storage, begin, shape, strides, row.dtype}, kNoIndex);
    if (storage.second) {
      const auto placed = source_of(checkpoint_, data);
      const auto extent = gathered_->add({placed.source, placed.offset, row.offset, std::move(shape),
                                          std::move(strides), row.dtype, row.dtype, false});
      storage.first->second = add(row, {part_, extent, {}, {}});
    }
    return storage.first->second;
  }

  /// Of the kind that the row's old one is.
  StorageId add(const TensorInfo& row, DataRef data) {
    const auto old = checkpoint_.storages[row.storage];
    const auto device = checkpoint_.devices[old.device];
    const auto id = checkpoint_.add_storage(std::move(data), old.untyped ? old.dtype : row.dtype, device);
    checkpoint_.storages[id].untyped = old.untyped;
    return id;
  }

  Checkpoint& checkpoint_;
  Surroundings around_;
  ConversionReport& report_;
  std::map<Key, StorageId> made_;
  std::shared_ptr<GatheredSource> gathered_ = std::make_shared<GatheredSource>("strided tensors");
  std::uint32_t part_ = static_cast<std::uint32_t>(checkpoint_.parts.size());  ///< of `gathered_`
  std::uint64_t added_ = 0;                                                    ///< bytes
};

}  // namespace

CompactReport find_views(EditContext& context) {
  return Compaction(context).find_views();
}

Status compact_tensors(EditContext& context) {
  return Compaction(context).run();
}

}  // namespace ckpt
