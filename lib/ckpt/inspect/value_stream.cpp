// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/value_stream.h"

#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/inspect/values.h"
#include "ckpt/model/byte_order.h"

namespace ckpt {

Result<ValueStream> ValueStream::open(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                      ValueOrder order) {
  CKPT_ASSIGN_OR_RETURN(const auto storage, storage_extent(checkpoint, tensor.storage));
  ValueStream stream;
  stream.source_ = checkpoint.parts.front().source;
  stream.begin_ = storage.offset + checkpoint.view_extent(tensor).offset;
  stream.size_ = checkpoint.bytes(tensor);
  stream.dtype_ = tensor.dtype;
  stream.swapped_ = has_turned_bytes(checkpoint, tensor);
  if (tensor.has(kContiguous) || order == ValueOrder::kAsTheyLie || stream.size_ == 0) return stream;
  const auto shape = checkpoint.shape(tensor);
  auto gathered = std::make_shared<GatheredSource>(stream.source_->name());
  gathered->add({stream.source_,
                 storage.offset,
                 tensor.offset,
                 {shape.begin(), shape.end()},
                 checkpoint.strides(tensor),
                 tensor.dtype,
                 tensor.dtype,
                 stream.swapped_});
  stream.source_ = std::move(gathered);
  stream.begin_ = 0;
  stream.swapped_ = false;
  return stream;
}

Status ValueStream::read(std::span<std::byte> out) {
  CKPT_RETURN_IF_ERROR(source_->read_at(begin_ + done_, out));
  done_ += out.size();
  if (swapped_) swap_byte_order(dtype_, out);
  return {};
}

}  // namespace ckpt
