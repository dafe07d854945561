// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/storage_bytes.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

Result<DataRef> data_of(const Checkpoint& checkpoint, StorageId id) {
  const auto& storage = checkpoint.storages[id];
  if (storage.is_added) return checkpoint.added_data[storage.record];
  if (storage.bytes > 0 && storage.extent.size == 0) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("storage {} lies in a compressed record, whose bytes can't be taken apart",
                             quoted(storage.key)));
  }
  DataRef data{0, storage.extent, {}, {}};
  if (storage.has_crc32) data.crc32 = storage.crc32;
  return data;
}

DataRef part_of(const DataRef& data, std::uint64_t begin, std::uint64_t size) {
  if (begin == 0 && size == data.size()) return data;
  if (!data.in_memory) return {data.part, {data.extent.offset + begin, size}, {}, {}};
  const auto bytes = ByteView(*data.in_memory).subspan(begin, size);
  return DataRef::of_bytes(Bytes(bytes.begin(), bytes.end()));
}

PlacedSource source_of(const Checkpoint& checkpoint, const DataRef& data) {
  if (data.in_memory) return {std::make_shared<MemorySource>("an added storage", *data.in_memory), 0};
  return {checkpoint.parts[data.part].source, data.extent.offset};
}

}  // namespace ckpt
