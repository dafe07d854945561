// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint read from one container and laid out as another.
#pragma once

#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/target.h"

namespace ckpt {

/// The container of the output: the one of `target`, else the input's, which for the state dict of a
/// TorchScript archive is a torch zip.
CKPT_EXPORT FormatId output_format(const Target& target, const Checkpoint& checkpoint);

/// The file that holds `checkpoint` with its edits, in the container that `target` names. Computed bytes
/// become parts of the checkpoint. `notes` gets a sentence for each thing that the target spells otherwise.
/// Errors: kUnsupported for what the target can't hold, naming what and the option that resolves it.
CKPT_EXPORT Result<Layout> lay_out_as(const Target& target, Checkpoint& checkpoint,
                                      std::vector<std::string>& notes);

}  // namespace ckpt
