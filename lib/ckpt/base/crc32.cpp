// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/base/crc32.h"

#include <libdeflate.h>

namespace ckpt {

std::uint32_t crc32(std::uint32_t crc, ByteView bytes) {
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
}

}  // namespace ckpt
