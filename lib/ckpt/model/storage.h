// SPDX-License-Identifier: BSD-3-Clause
// A run of bytes that tensors view. Tensors on one storage share memory after loading, and keep doing so
// in everything that is written.
#pragma once

#include <cstdint>
#include <string_view>

#include "ckpt/io/extent.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

struct Storage {
  std::string_view key;  ///< as the container names it: "0", "94123456789", a tensor's name; empty if added
  std::uint64_t bytes = 0;
  Extent extent;  ///< where the bytes lie, for containers that know without reading further
  /// Archive record that holds the bytes, resolved when it is laid out; index into the checkpoint's
  /// `added_data` where an edit added the storage.
  std::uint32_t record = 0xFFFFFFFFU;
  std::uint32_t crc32 = 0;
  std::uint16_t device = 0;     ///< index into the checkpoint's device tags
  Dtype dtype = Dtype::kUint8;  ///< of its first use
  bool has_crc32 = false;
  bool untyped = false;                 ///< counted in bytes, not in elements of dtype
  bool is_added = false;                ///< by an edit: no container has it yet
  std::uint8_t document = 0;            ///< of the part, whose persistent ids name it
  std::uint32_t same_as = 0xFFFFFFFFU;  ///< a storage of equal bytes, which uses of this one name instead
};

}  // namespace ckpt
