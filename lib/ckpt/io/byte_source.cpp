// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/byte_source.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

Status ByteSource::require(Extent extent) const {
  if (extent.offset <= size() && extent.size <= size() - extent.offset) return {};
  return Error(ErrorCode::kCorrupt, fmt::format("needs {} at byte {} but the file ends at byte {}",
                                                counted(extent.size, "byte"), extent.offset, size()))
      .in_file(name());
}

Result<Bytes> ByteSource::read(Extent extent) const {
  CKPT_RETURN_IF_ERROR(require(extent));  // before a size that lies becomes an allocation
  Bytes bytes(extent.size);
  CKPT_RETURN_IF_ERROR(read_at(extent.offset, bytes));
  return bytes;
}

Status MemorySource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  std::ranges::copy(ByteView(bytes_).subspan(offset, out.size()), out.begin());
  return {};
}

}  // namespace ckpt
