// SPDX-License-Identifier: BSD-3-Clause
// The stream of torch.save 0.1.10 to 1.5 (and later on request): five pickles one behind the other, then the
// storages. Source: torch/serialization.py, _legacy_save and _legacy_load.
//
//   magic | protocol 1001 | system | object | keys | for each key: i64 elements, bytes
//
// There are no offsets and no padding. A storage's size follows from its first use in the object, and where
// it lies from the sizes of those before it. The bytes are little-endian, whatever `system` says.
#pragma once

#include <vector>

#include "ckpt/format/format.h"

namespace ckpt {

/// Where the stream's pieces lie. Documents of the part: the object, then the list of keys.
struct TorchLegacyData final : ContainerData {
  /// One element of the list of keys.
  struct Listed {
    Use use = kNoUse;  ///< in the list's graph
    StorageId storage = kNoIndex;
    Extent extent;  ///< with its count
  };

  std::vector<Listed> listed;  ///< in the order of the list
  Extent trailing;             ///< what follows the last storage
};

class TorchLegacyFormat final : public Format {
 public:
  FormatId id() const override { return FormatId::kTorchLegacy; }

  std::string_view name() const override { return "torch legacy"; }

  bool probe(const Probe& probe) const override;
  Result<Checkpoint> read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics,
                          Intent intent) const override;
  Result<Layout> lay_out(const Checkpoint& checkpoint) const override;
};

}  // namespace ckpt
