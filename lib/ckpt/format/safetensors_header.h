// SPDX-License-Identifier: BSD-3-Clause
// The JSON header of safetensors as a stream of events. No document tree: a million tensors are read in the
// time their text takes, and their names stay views of it.
#pragma once

#include "ckpt/base/result.h"
#include "ckpt/format/safetensors.h"

namespace ckpt {

inline constexpr std::string_view kSafetensorsMetadata = "__metadata__";

/// Reads `data.header` into `data.members` and the checkpoint's tensors, storages, places and metadata, in
/// the header's order. Storage extents are relative to the buffer. Names must not outlive `data`.
/// Errors: kCorrupt for what is no JSON, has the wrong types or contradicts itself; kUnsupported for a dtype
/// nobody knows. Not checked: equal names, and whether the tensors fill the buffer.
Status parse_safetensors_header(SafetensorsData& data, Checkpoint& checkpoint);

}  // namespace ckpt
