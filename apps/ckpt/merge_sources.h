// SPDX-License-Identifier: BSD-3-Clause
// The files that a plan's merges take tensors from.
#pragma once

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace ckpt::cli {

/// Reads those of `plan` that are not read yet. Errors: those of reading, with the file; kRefused where
/// readers disagree about one.
Status open_merge_sources(Plan& plan);

}  // namespace ckpt::cli
