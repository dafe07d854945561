// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint of another container laid out as safetensors: the state dict that the file is made of, and
// nothing else, for nothing else fits.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/target.h"

namespace ckpt {

/// Storages must have been located. What was gathered becomes a part of the checkpoint.
/// Errors: kUnsupported for all that safetensors can't hold, and for tensors that share bytes unless `tied`
/// says what becomes of them.
Result<Layout> lay_out_safetensors(Checkpoint& checkpoint, TiedTensors tied, std::vector<std::string>& notes);

}  // namespace ckpt
