// SPDX-License-Identifier: BSD-3-Clause
// The steps of `convert` that stay in the container of the input, one function each. `apply_convert` calls
// them in order; each fills its part of the report's `conversion`, which is there.
#pragma once

#include "ckpt/base/result.h"
#include "ckpt/edit/edits.h"

namespace ckpt {

/// Of the state dict that `make_root` chose only tensors stay: no `_metadata`, no `_extra_state`, no other
/// values of a mixed root.
Status keep_tensors_only(EditContext& context);

/// What `torch.load(weights_only=True)` refuses becomes plain, or goes with the item that holds it. Errors:
/// kUnsupported for what can be neither, with the global that is refused.
Status make_weights_only(EditContext& context);

/// Tensors become values of the dtypes that the rules of the edit want. Errors: kNotFound for a pattern
/// without a match; kUnsupported for what can't be cast, a storage in a compressed record; kRefused where two
/// rules want one tensor to be two things, and for integers that would require a gradient.
Status cast_tensors(const Convert& edit, EditContext& context);

/// What `compact_tensors` will have to do, as the file stands: `bytes_after` is not known yet.
CompactReport find_views(EditContext& context);

/// Every view gets a storage of its own, unless it is all of one already. Precondition: the report holds
/// what `find_views` found. Errors: kUnsupported for a storage in a compressed record.
Status compact_tensors(EditContext& context);

/// Storages with equal bytes become one, where tensors are copied out of the file when it is used: not in
/// optimizers and objects. Errors: kIo, kCorrupt where they can't be read.
Status dedupe_storages(EditContext& context);

/// Every storage says that it lay on the CPU.
Status tag_devices_cpu(EditContext& context);

}  // namespace ckpt
