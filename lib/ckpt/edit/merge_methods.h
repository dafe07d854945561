// SPDX-License-Identifier: BSD-3-Clause
// Merges that compute, of `apply_merge`. The recipe is checked against the number of files.
#pragma once

#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/merge_offers.h"

namespace ckpt {

/// Errors: those of DictMerge, and of jobs: kUsage, kUnsupported.
Status apply_merge_method(const MergeTensors& edit, EditContext& context, std::vector<Offers>& offers);
/// The others are adapters (LoRA), whose products are added to the weights that they are made for. Errors:
/// kNotFound where a weight is missing, kUnsupported for adapters of other kinds, kUsage without a scale.
Status apply_merge_adapters(const MergeTensors& edit, EditContext& context);

}  // namespace ckpt
