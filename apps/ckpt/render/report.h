// SPDX-License-Identifier: BSD-3-Clause
// What an editing command did to one file, as text and as JSON. The same for a dry run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/edit/apply.h"
#include "console.h"
#include "exit_code.h"
#include "render/json_writer.h"

namespace ckpt::cli {

/// What a GPU did.
struct DeviceWork {
  std::string label;  ///< "cuda:0"; empty: none was there
  std::string name;
  std::uint64_t copied = 0;  ///< bytes of values that it put in order
  std::uint64_t computed = 0;
};

struct FileResult {
  std::string file;
  std::string output;
  std::string format;
  std::string output_format;  ///< the same, unless --to asked for another one
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t bytes_copied = 0;  ///< of the output, moved from the input as they are
  bool changed = false;
  bool dry_run = false;
  bool verbose = false;     ///< the text report tells of each tensor that was computed
  bool left_alone = false;  ///< --in-place with nothing to change
  ExitCode status = ExitCode::kDone;
  DeviceWork device;
  PlanReport report;
  std::vector<Finding> findings;
};

void print_result(Stream& out, const FileResult& result);
void write_result(JsonWriter& json, const FileResult& result);

}  // namespace ckpt::cli
