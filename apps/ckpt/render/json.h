// SPDX-License-Identifier: BSD-3-Clause
// The document that --json prints: {"schema", "files", "errors", "status"}, exactly one, also on failure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/diagnostics.h"
#include "ckpt/base/result.h"
#include "exit_code.h"
#include "render/json_writer.h"

namespace ckpt::cli {

/// Opens the document; files are written between `begin` and `end`.
class JsonDocument {
 public:
  JsonDocument(Stream& stream, std::string_view command);

  JsonWriter& writer() { return writer_; }

  /// Closes files, writes errors and status.
  void end(const std::vector<Error>& errors, ExitCode status);

 private:
  JsonWriter writer_;
};

void write_findings(JsonWriter& json, const std::vector<Finding>& findings, std::string_view file);

/// A format's name as documents spell it: "torch zip" is "torch-zip", "TorchScript" is "torchscript".
std::string format_word(std::string_view name);

/// Adds "name_hex" with the bytes of `name` if it is no UTF-8.
void write_hex_if_needed(JsonWriter& json, std::string_view key, std::string_view name);

/// A list of names under `key`. Where one is no UTF-8, a second list under `hex_key` has its bytes, and null
/// for the others.
void write_names(JsonWriter& json, std::string_view key, std::string_view hex_key,
                 const std::vector<std::string>& names);

/// The whole document for a failure before any file was read.
void write_failure(Stream& stream, std::string_view command, const Error& error);

/// `fix` of a finding with FILE and OUT replaced.
std::string spell_fix(std::string_view fix, std::string_view file);

}  // namespace ckpt::cli
