// SPDX-License-Identifier: BSD-3-Clause
// What the rest of a file tells about the kinds of a state dict's tensors: its `_metadata`, names that stand
// beside each other, and the states of optimizers. A state dict itself keeps plain tensors, so that this is
// often all there is to know.
#pragma once

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Fills `noted` of tensors in state dicts that are no modules'; `role_of` then knows more.
///
/// * `_metadata` has version 2 for batch and instance norms, and lists what spectral_norm registered.
/// * `weight_orig` beside `weight_u` is a spectral norm, beside `weight_mask` a pruned layer; positions near
/// a
///   `class_token` are learned.
/// * An optimizer names its parameters, or the shapes of its states fit the keys, in order, in one way alone.
///   That proves parameters. It proves no buffers: an optimizer need not have every parameter.
CKPT_EXPORT void note_roles(Checkpoint& checkpoint);

}  // namespace ckpt
