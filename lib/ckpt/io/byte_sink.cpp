// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/byte_sink.h"

namespace ckpt {

Status ByteSink::write_ahead(std::uint64_t, ByteView) {
  return Error(ErrorCode::kInternal, "this sink does not write ahead");
}

Status ByteSink::skip(std::uint64_t) {
  return Error(ErrorCode::kInternal, "this sink does not write ahead");
}

Status MemorySink::write_ahead(std::uint64_t offset, ByteView bytes) {
  const std::lock_guard lock(mutex_);
  ahead_[offset].assign(bytes.begin(), bytes.end());
  return {};
}

Status MemorySink::skip(std::uint64_t size) {
  const auto end = position() + size;
  while (position() < end) {
    const auto found = ahead_.find(position());
    if (found == ahead_.end()) return Error(ErrorCode::kInternal, "nothing was written ahead here");
    append_bytes(bytes_, found->second);
    ahead_.erase(found);
  }
  return {};
}

Status MemorySink::write(ByteView bytes) {
  append_bytes(bytes_, bytes);
  return {};
}

Status MemorySink::copy_from(const ByteSource& source, Extent extent) {
  CKPT_ASSIGN_OR_RETURN(const auto bytes, source.read(extent));
  return write(bytes);
}

}  // namespace ckpt
