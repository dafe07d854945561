// SPDX-License-Identifier: BSD-3-Clause
// Keys of a state dict under which one and the same tensor stands, as an embedding and a decoder that share a
// weight. A model's parameters() counts such a tensor once.
#pragma once

#include <cstdint>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// By entry of the state dict, the first entry with the same tensor; itself where there is none before it,
/// and for entries that are no tensors. Parameters are one where they are one object. Of what a state dict
/// keeps, plain tensors, objects tell nothing: they are one where they show the same values of one storage.
CKPT_EXPORT std::vector<std::uint32_t> first_of_ties(const Checkpoint& checkpoint, const StateDict& dict);

/// Tensors outside state dicts that show bytes of a storage from which an edit took a replaced tensor away,
/// and are other objects than that one: views that keep the old values.
CKPT_EXPORT std::vector<TensorId> left_behind(const Checkpoint& checkpoint);

}  // namespace ckpt
