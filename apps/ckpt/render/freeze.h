// SPDX-License-Identifier: BSD-3-Clause
// What `freeze-report` found, for people, as JSON, and for a training script.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/inspect/base_comparison.h"
#include "ckpt/inspect/freeze.h"
#include "console.h"
#include "render/json_writer.h"

namespace ckpt::cli {

/// A file as freeze-report sees it.
struct FreezeResult {
  std::string file;
  std::uint64_t bytes = 0;
  Checkpoint checkpoint;
  OptimizerKind optimizer = OptimizerKind::kAdamW;
  std::vector<FreezeReport> reports;        ///< by state dict
  std::string base;                         ///< the file of --base; empty without
  std::vector<BaseComparison> comparisons;  ///< by report, or empty
  std::vector<Finding> findings;            ///< of the reader
};

std::string_view optimizer_kind_name(OptimizerKind kind);

void print_freeze(const FreezeResult& result, Stream& out);
/// What a person should hear also where the report is not printed: one line each.
std::vector<std::string> freeze_notes(const FreezeResult& result, const FreezeReport& report);

void write_freeze(JsonWriter& json, const FreezeResult& result);
/// The object of a file that could not be read or answered for; the reason is among the document's errors.
void write_no_freeze(JsonWriter& json, const std::string& file);

/// Lines of Python that take `model`, set requires_grad of every parameter by its name and make `optimizer`.
void emit_python(const FreezeResult& result, const FreezeReport& report, Stream& out);
/// {"trainable": […], "frozen": […], …}.
void emit_json(const FreezeResult& result, const FreezeReport& report, Stream& out);
/// The keys that train, each ended by `end`.
void emit_names(const FreezeResult& result, const FreezeReport& report, char end, Stream& out);

}  // namespace ckpt::cli
