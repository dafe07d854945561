// SPDX-License-Identifier: BSD-3-Clause
// Finds every tensor of a torch document wherever it sits, and everything else that has a place: fills the
// tables of a Checkpoint. Shared by the containers whose objects are one pickle.
#pragma once

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "ckpt/format/tensor_rebuild.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// How a container finds the storage a persistent id names.
class StorageResolver {
 public:
  StorageResolver() = default;
  StorageResolver(const StorageResolver&) = delete;
  StorageResolver& operator=(const StorageResolver&) = delete;
  virtual ~StorageResolver() = default;

  /// The row in `checkpoint.storages`, made on first use.
  /// Errors: kCorrupt where the container has no such storage or its size contradicts the use.
  virtual Result<StorageId> resolve(const StorageUse& use, Checkpoint& checkpoint) = 0;
};

class ScriptModules;

/// Walks the document of `checkpoint` from its root. Objects reached twice are walked once; a tensor used
/// under two keys is two rows. Fills tensors, dimensions, places, entries, mappings and state_dicts.
/// `scripts`: where the document is of TorchScript, tells its modules. Errors: kCorrupt for a tensor that
/// contradicts itself or its storage, with its path.
Status collect_objects(Checkpoint& checkpoint, StorageResolver& resolver, Diagnostics& diagnostics,
                       ScriptModules* scripts = nullptr);

/// The same for the constants of TorchScript code, document 1: tensors alone, which are in no state dict.
Status collect_constants(Checkpoint& checkpoint, StorageResolver& resolver, Diagnostics& diagnostics);

}  // namespace ckpt
