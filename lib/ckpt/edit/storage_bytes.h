// SPDX-License-Identifier: BSD-3-Clause
// Where the bytes of a storage are, whether it is the file's or an edit's.
#pragma once

#include <cstdint>
#include <memory>

#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Precondition for a storage of the file: it is located (Format::locate_storages).
/// Errors: kUnsupported for one in a compressed record.
Result<DataRef> data_of(const Checkpoint& checkpoint, StorageId storage);

/// The bytes from `begin` on of what `data` is.
DataRef part_of(const DataRef& data, std::uint64_t begin, std::uint64_t size);

/// A source, and where in it the data begins.
struct PlacedSource {
  std::shared_ptr<const ByteSource> source;
  std::uint64_t offset = 0;
};

PlacedSource source_of(const Checkpoint& checkpoint, const DataRef& data);

}  // namespace ckpt
