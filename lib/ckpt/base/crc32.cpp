// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/base/crc32.h"

#include <libdeflate.h>
#include <zlib.h>

namespace ckpt {

std::uint32_t crc32(std::uint32_t crc, ByteView bytes) {
  return libdeflate_crc32(crc, bytes.data(), bytes.size());
}

std::uint32_t crc32_of_both(std::uint32_t first, std::uint32_t second, std::uint64_t size) {
  return static_cast<std::uint32_t>(::crc32_combine(first, second, static_cast<z_off_t>(size)));
}

}  // namespace ckpt
