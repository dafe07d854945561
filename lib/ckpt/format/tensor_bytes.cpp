// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/tensor_bytes.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {

Result<TensorBytes::Place> TensorBytes::locate(StorageId id) const {
  const auto& storage = checkpoint_.storages[id];
  if (!storage.is_added) {
    if (storage.bytes > 0 && storage.extent.size == 0) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("storage {} lies in a compressed record, whose bytes can't be copied",
                               quoted(storage.key)))
          .with_hint("unpack the archive and pack it with 'zip -0 -r' first");
    }
    DataRef data{0, storage.extent, {}, {}};
    data.extent.size = storage.bytes;
    if (storage.has_crc32) data.crc32 = storage.crc32;
    return Place{std::move(data), checkpoint_.parts.front().source};
  }
  const auto& data = checkpoint_.added_data[storage.record];
  if (!data.in_memory) return Place{data, checkpoint_.parts[data.part].source};
  return Place{data, std::make_shared<MemorySource>("added bytes", *data.in_memory)};
}

DataRef TensorBytes::gather(const Place& place, Gather gather) {
  if (!gathered_) gathered_ = std::make_shared<GatheredSource>("converted tensors");
  gather.source = place.source;
  gather.storage = place.data.in_memory ? 0 : place.data.extent.offset;
  const auto part = static_cast<std::uint32_t>(checkpoint_.parts.size());  // what `finish` makes it
  return {part, gathered_->add(std::move(gather)), {}, {}};
}

Result<DataRef> TensorBytes::storage(StorageId id) {
  const auto& storage = checkpoint_.storages[id];
  CKPT_ASSIGN_OR_RETURN(const auto place, locate(id));
  if (!has_turned_bytes(checkpoint_, storage, storage.dtype) || storage.bytes == 0) return place.data;
  Gather turned;
  turned.shape = {static_cast<std::int64_t>(storage.bytes / dtype_info(storage.dtype).item_size)};
  turned.strides = {1};
  turned.from = turned.to = storage.dtype;
  turned.swapped = true;
  return gather(place, std::move(turned));
}

Result<DataRef> TensorBytes::tensor(const TensorInfo& row) {
  const auto& storage = checkpoint_.storages[row.storage];
  const auto item = dtype_info(row.dtype).item_size;
  const auto shape = checkpoint_.shape(row);
  const auto strides = checkpoint_.strides(row);
  CKPT_ASSIGN_OR_RETURN(auto place, locate(row.storage));
  if (checkpoint_.big_endian && storage.untyped && item > 1) {
    return Error(
        ErrorCode::kUnsupported,
        fmt::format("tensor {} is of dtype {} in a big-endian file: PyTorch does not turn its bytes, "
                    "so nobody knows their order",
                    quoted(row.name), dtype_info(row.dtype).name));
  }
  const bool swapped = has_turned_bytes(checkpoint_, row);
  if (!swapped && !row.is_lazy() && is_c_order(shape, strides)) {
    const auto bytes = checkpoint_.bytes(row);
    auto& data = place.data;
    if (bytes == data.size()) return data;
    const auto offset = row.offset * item;
    if (data.in_memory) {
      const auto part = ByteView(*data.in_memory).subspan(offset, bytes);
      return DataRef::of_bytes(Bytes(part.begin(), part.end()));
    }
    return DataRef{data.part, {data.extent.offset + offset, bytes}, {}, {}};
  }
  Gather dense;
  dense.offset = row.offset;
  dense.shape.assign(shape.begin(), shape.end());
  dense.strides = strides;
  dense.from = dense.to = row.dtype;
  dense.swapped = swapped;
  dense.lazy = lazy_bits_of(row);
  return gather(place, std::move(dense));
}

void TensorBytes::finish() {
  if (gathered_) checkpoint_.parts.push_back({gathered_, {}, {}});
  gathered_.reset();
}

}  // namespace ckpt
