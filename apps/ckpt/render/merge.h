// SPDX-License-Identifier: BSD-3-Clause
// What a merge by a method did, as text and as JSON.
#pragma once

#include <string>

#include "ckpt/edit/merge_report.h"
#include "console.h"
#include "render/json_writer.h"

namespace ckpt::cli {

/// `with_tensors`: with a line for each of them.
void print_merge(Stream& out, const MergeReport& report, const std::string& base, bool with_tensors);
void write_merge(JsonWriter& json, const MergeReport& report);

}  // namespace ckpt::cli
