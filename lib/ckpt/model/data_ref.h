// SPDX-License-Identifier: BSD-3-Clause
// Where the bytes of a storage lie that an edit adds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "ckpt/base/bytes.h"
#include "ckpt/io/extent.h"

namespace ckpt {

/// A stretch of one of the checkpoint's parts, or bytes of its own. Values are in the byte order of the file
/// that is written: little-endian, but for a torch zip that says otherwise.
struct DataRef {
  std::uint32_t part = 0;
  Extent extent;                           ///< in the part's source
  std::optional<std::uint32_t> crc32;      ///< of the bytes, where it is known
  std::shared_ptr<const Bytes> in_memory;  ///< if not null, `part` and `extent` mean nothing

  std::uint64_t size() const { return in_memory ? in_memory->size() : extent.size; }

  static DataRef of_bytes(Bytes bytes) {
    return {0, {}, {}, std::make_shared<const Bytes>(std::move(bytes))};
  }
};

}  // namespace ckpt
