// SPDX-License-Identifier: BSD-3-Clause
// Which numbers of a big-endian file lie with their most significant byte first. PyTorch turns those that it
// reads from a typed storage, and leaves untyped ones as they lie.
#pragma once

#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Do the bytes of a number of `dtype` lie the other way round in `storage`?
bool has_turned_bytes(const Checkpoint& checkpoint, const Storage& storage, Dtype dtype);

/// The same of the tensor's own. Precondition: it has a storage.
bool has_turned_bytes(const Checkpoint& checkpoint, const TensorInfo& tensor);

/// Are they to lie so in a storage that is added? Those of dtypes without a storage class never are.
bool takes_turned_bytes(const Checkpoint& checkpoint, Dtype dtype);

}  // namespace ckpt
