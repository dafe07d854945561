// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/byte_order.h"

namespace ckpt {

bool has_turned_bytes(const Checkpoint& checkpoint, const Storage& storage, Dtype dtype) {
  return checkpoint.big_endian && !storage.untyped && dtype_info(dtype).item_size > 1;
}

bool has_turned_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  return has_turned_bytes(checkpoint, checkpoint.storages[tensor.storage], tensor.dtype);
}

bool takes_turned_bytes(const Checkpoint& checkpoint, Dtype dtype) {
  const auto& info = dtype_info(dtype);
  return checkpoint.big_endian && info.item_size > 1 && !info.storage_class.empty();
}

}  // namespace ckpt
