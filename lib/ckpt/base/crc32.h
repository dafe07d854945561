// SPDX-License-Identifier: BSD-3-Clause
// The checksum of zip records (CRC-32 of APPNOTE 4.4.7), incremental.
#pragma once

#include <cstdint>

#include "ckpt/base/bytes.h"

namespace ckpt {

/// Continues the checksum `crc` (0 at the start) over `bytes`.
std::uint32_t crc32(std::uint32_t crc, ByteView bytes);

/// The checksum of two stretches one behind the other, from those of each; the second has `size` bytes.
std::uint32_t crc32_of_both(std::uint32_t first, std::uint32_t second, std::uint64_t size);

}  // namespace ckpt
