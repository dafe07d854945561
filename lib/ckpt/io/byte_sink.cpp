// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/byte_sink.h"

namespace ckpt {

Status MemorySink::write(ByteView bytes) {
  append_bytes(bytes_, bytes);
  return {};
}

Status MemorySink::copy_from(const ByteSource& source, Extent extent) {
  CKPT_ASSIGN_OR_RETURN(const auto bytes, source.read(extent));
  return write(bytes);
}

}  // namespace ckpt
