// SPDX-License-Identifier: BSD-3-Clause
// What `inspect` found, as JSON (docs/reference/json.md), streamed.
#pragma once

#include <string>

#include "render/inspect_text.h"
#include "render/json_writer.h"

namespace ckpt::cli {

void write_inspection(JsonWriter& json, const InspectedFile& file);

/// The object of a file that could not be read; the reason is among the document's errors.
void write_unreadable(JsonWriter& json, const std::string& name);

}  // namespace ckpt::cli
