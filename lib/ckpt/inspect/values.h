// SPDX-License-Identifier: BSD-3-Clause
// A few values of a tensor as text: for looking, not for computing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// The first `count` values in C order, each as JSON: numbers, true/false, [re, im], or a string for NaN,
/// infinities and raw bits. Lazy conjugation and negation are applied. Errors: kUnsupported for composites,
/// sub-byte and meta tensors; kIo.
CKPT_EXPORT Result<std::vector<std::string>> first_values(const Checkpoint& checkpoint,
                                                          const TensorInfo& tensor, std::uint64_t count);

/// Where a storage's bytes lie in its part; reads the local header of an archive's record.
/// Errors: kUnsupported for compressed records.
CKPT_EXPORT Result<Extent> storage_extent(const Checkpoint& checkpoint, StorageId storage);

}  // namespace ckpt
