// SPDX-License-Identifier: BSD-3-Clause
// Where the bytes of storages and tensors come from that are written into another container. What lies as the
// container wants it is a range that the kernel copies; all else is gathered while it is written.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

class TensorBytes {
 public:
  /// Storages must have been located (`Format::locate_storages`). The checkpoint must outlive this.
  explicit TensorBytes(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  /// A whole storage, little-endian. Errors: kUnsupported for bytes in a compressed record.
  Result<DataRef> storage(StorageId id);

  /// The values of a strided tensor in C order, little-endian. Errors: kUnsupported for bytes in a compressed
  /// record, and for numbers of which nobody knows whether a writer turned them.
  Result<DataRef> tensor(const TensorInfo& row);

  /// Makes what was gathered a part of the checkpoint. Once, when all is asked for.
  void finish();

 private:
  /// A storage's bytes in a source.
  struct Place {
    DataRef data;  ///< the whole of it
    std::shared_ptr<const ByteSource> source;
  };

  Result<Place> locate(StorageId id) const;
  DataRef gather(const Place& place, Gather gather);

  Checkpoint& checkpoint_;
  std::shared_ptr<GatheredSource> gathered_;
};

}  // namespace ckpt
