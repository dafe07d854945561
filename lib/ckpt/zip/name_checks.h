// SPDX-License-Identifier: BSD-3-Clause
// Names that readers understand differently: equal ones, equal but for case, outside the root, with bytes
// that end a string, climb out of a folder, or are no text.
#pragma once

#include "ckpt/base/diagnostics.h"
#include "ckpt/zip/entry_table.h"

namespace ckpt {

/// Reports what is odd about the names. True if some are equal when the case of ASCII letters is ignored.
bool check_names(const EntryTable& table, Diagnostics& diagnostics);

}  // namespace ckpt
