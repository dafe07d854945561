// SPDX-License-Identifier: BSD-3-Clause
// What casts did, as text and as JSON. For when the values have been produced.
#pragma once

#include <vector>

#include "ckpt/edit/cast_report.h"
#include "console.h"
#include "render/json_writer.h"

namespace ckpt::cli {

void print_casts(Stream& out, const CastReport& report);

/// Values that the dtype has no number for, if there are any, in a line.
void print_overflows(Stream& out, const std::vector<CastValues>& casts);

void write_cast_values(JsonWriter& json, const std::vector<CastValues>& casts);

void write_casts(JsonWriter& json, const CastReport& report);

}  // namespace ckpt::cli
