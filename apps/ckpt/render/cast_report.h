// SPDX-License-Identifier: BSD-3-Clause
// What `convert --dtype` did, as text and as JSON. For when the values have been produced.
#pragma once

#include "ckpt/edit/cast_report.h"
#include "console.h"
#include "render/json_writer.h"

namespace ckpt::cli {

void print_casts(Stream& out, const CastReport& report);

void write_casts(JsonWriter& json, const CastReport& report);

}  // namespace ckpt::cli
