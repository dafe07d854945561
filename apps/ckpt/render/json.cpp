// SPDX-License-Identifier: BSD-3-Clause
#include "render/json.h"

#include <algorithm>

#include <fmt/format.h>

#include "render/command_line.h"

namespace ckpt::cli {
namespace {

/// "run/model.pt" → "run/model.fixed.pt".
std::string fixed_name(std::string_view file) {
  const auto slash = file.rfind('/');
  const auto dot = file.rfind('.');
  const bool has_extension = dot != file.npos && (slash == file.npos || dot > slash + 1) && dot > 0;
  if (!has_extension) return std::string(file) + ".fixed";
  return std::string(file.substr(0, dot)) + ".fixed" + std::string(file.substr(dot));
}

std::string in_hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return hex;
}

void write_error(JsonWriter& json, const Error& error) {
  json.begin_object();
  json.key("code").string(error_code_name(error.code()));
  json.key("file").string_or_null(error.file());
  json.key("message").string(error.text());
  json.key("hint").string_or_null(error.hint());
  json.end_object();
}

}  // namespace

JsonDocument::JsonDocument(Stream& stream, std::string_view command) : writer_(stream) {
  writer_.begin_object();
  writer_.key("schema").string(fmt::format("ckpt.{}/1", command));
  writer_.key("files").begin_array();
}

void JsonDocument::end(const std::vector<Error>& errors, ExitCode status) {
  writer_.end_array();
  writer_.key("errors").begin_array();
  for (const auto& error : errors) write_error(writer_, error);
  writer_.end_array();
  writer_.key("status").number(static_cast<int>(status));
  writer_.end_object();
  writer_.finish();
}

std::string spell_fix(std::string_view fix, std::string_view file) {
  std::string out;
  while (!fix.empty()) {
    const auto space = fix.find(' ');
    const auto word = fix.substr(0, space);
    if (!out.empty()) out += ' ';
    out += word == "FILE"  ? shell_word(file)
           : word == "OUT" ? shell_word(fixed_name(file))
                           : std::string(word);
    fix.remove_prefix(space == fix.npos ? fix.size() : space + 1);
  }
  return out;
}

std::string format_word(std::string_view name) {
  std::string word(name);
  for (auto& letter : word) {
    if (letter == ' ') letter = '-';
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return word;
}

void write_findings(JsonWriter& json, const std::vector<Finding>& findings, std::string_view file) {
  json.begin_array();
  for (const auto& finding : findings) {
    json.begin_object();
    json.key("id").string(finding.id);
    json.key("severity").string(severity_name(finding.severity));
    json.key("place").string_or_null(finding.place);
    json.key("message").string(finding.message);
    json.key("fix").string_or_null(spell_fix(finding.fix, file));
    json.end_object();
  }
  json.end_array();
}

void write_hex_if_needed(JsonWriter& json, std::string_view key, std::string_view name) {
  if (!is_utf8(name)) json.key(key).string(in_hex(name));
}

void write_names(JsonWriter& json, std::string_view key, std::string_view hex_key,
                 const std::vector<std::string>& names) {
  json.key(key).begin_array();
  for (const auto& name : names) json.string(name);
  json.end_array();
  if (std::all_of(names.begin(), names.end(), [](const auto& name) { return is_utf8(name); })) return;
  json.key(hex_key).begin_array();
  for (const auto& name : names) is_utf8(name) ? json.null() : json.string(in_hex(name));
  json.end_array();
}

void write_failure(Stream& stream, std::string_view command, const Error& error) {
  JsonDocument document(stream, command);
  document.end({error}, ExitCode::kCouldNotDoIt);
}

}  // namespace ckpt::cli
