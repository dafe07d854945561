// SPDX-License-Identifier: BSD-3-Clause
// What a container holds besides the object and its storages, and no other container has a place for.
#pragma once

#include <string>
#include <vector>

#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Sentences about records nobody knows, storages that nothing uses and bytes behind the end.
void note_left_behind(const Checkpoint& checkpoint, std::vector<std::string>& notes);

}  // namespace ckpt
