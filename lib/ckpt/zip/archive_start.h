// SPDX-License-Identifier: BSD-3-Clause
// Finding an archive that stands behind other bytes, as in a self-extracting one. zipfile reads it, PyTorch
// does not: this is for telling people.
#pragma once

#include <cstdint>
#include <optional>

#include "ckpt/io/byte_source.h"

namespace ckpt {

/// Where the first record of the archive at the end of `source` begins, if there is one and it is not at
/// byte 0; nothing else. Offsets in the directory may count what stands in front or not.
std::optional<std::uint64_t> find_archive_behind_bytes(const ByteSource& source);

}  // namespace ckpt
