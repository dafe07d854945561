// SPDX-License-Identifier: BSD-3-Clause
// Statistics of tensors, for people and as JSON.
#pragma once

#include "ckpt/inspect/tensor_statistics.h"
#include "render/inspect_text.h"
#include "render/json_writer.h"

namespace ckpt::cli {

/// A line a tensor, in the order of the file's list.
void print_statistics(const InspectedFile& file, Stream& out);

/// The object that stands in a tensor's.
void write_statistics(JsonWriter& json, const TensorStatistics& statistics);

}  // namespace ckpt::cli
