// SPDX-License-Identifier: BSD-3-Clause
#include "manual.h"

#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/version.h"
#include "parser.h"
#include "render/json_writer.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kNameColumn = 26;
constexpr std::size_t kWidth = 80;

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

/// "FILE"; empty for flags.
std::string operand_of(const CLI::Option& option) {
  return option.get_type_size_max() > 0 ? option.get_option_text() : std::string();
}

/// "-o, --output FILE".
std::string spelled(const CLI::Option& option) {
  const auto operand = operand_of(option);
  return fmt::format("{}{}{}", fmt::join(names_of(option), ", "), operand.empty() ? "" : " ", operand);
}

/// Words of `text` in lines that start at `column`.
std::string wrapped(const std::string& text, std::size_t column) {
  std::string out;
  std::size_t used = column;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, end - at);
    if (used > column && used + 1 + word.size() > kWidth) {
      out += '\n' + std::string(column, ' ');
      used = column;
    } else if (used > column) {
      out += ' ';
      ++used;
    }
    out += word;
    used += word.size();
    at = end + 1;
  }
  return out;
}

std::string options_text(const CLI::App& app) {
  std::string out;
  for (const auto* option : app.get_options()) {
    if (option->get_lnames().empty()) continue;
    const auto name = spelled(*option);
    out += "  " + name;
    out += name.size() + 2 < kNameColumn ? std::string(kNameColumn - 2 - name.size(), ' ')
                                         : '\n' + std::string(kNameColumn, ' ');
    out += wrapped(option->get_description(), kNameColumn) + '\n';
  }
  return out;
}

void write_option(JsonWriter& json, const CLI::Option& option) {
  json.begin_object();
  json.key("names").begin_array();
  for (const auto& name : names_of(option)) json.string(name);
  json.end_array();
  json.key("operand").string_or_null(operand_of(option));
  json.key("description").string(option.get_description());
  json.end_object();
}

void write_command(JsonWriter& json, const Command& command) {
  CLI::App app{std::string(command.summary), std::string(command.name)};
  set_up_parser(app);
  command.attach(app);
  json.begin_object();
  json.key("name").string(command.name);
  json.key("alias").string_or_null(command.alias);
  json.key("summary").string(command.summary);
  json.key("operands").string(command.operands);
  json.key("options").begin_array();
  for (const auto* option : app.get_options()) {
    if (!option->get_lnames().empty()) write_option(json, *option);
  }
  json.end_array();
  json.key("manual").string(command.manual);
  json.end_object();
}

}  // namespace

std::string usage_text(const Command& command, const CLI::App& app) {
  return fmt::format(
      "{}.\n\nUsage: ckpt {} [OPTIONS] {}\n\nOptions:\n{}\n'ckpt help {}' shows the manual with "
      "examples.\n",
      command.summary, command.name, command.operands, options_text(app), command.name);
}

void print_manual(const Command& command, Stream& out) {
  CLI::App app{std::string(command.summary), std::string(command.name)};
  set_up_parser(app);
  command.attach(app);
  out.format("ckpt {}: {}\n", command.name, command.summary);
  if (!command.alias.empty()) out.format("Short name: {}\n", command.alias);
  out.print("\n");
  out.print(command.manual);
  out.format("\n## Options\n\n{}", options_text(app));
}

void print_help_document(std::span<const Command> commands, Stream& out) {
  JsonWriter json(out);
  json.begin_object();
  json.key("schema").string("ckpt.help/1");
  json.key("version").string(kVersion);
  json.key("commands").begin_array();
  for (const auto& command : commands) write_command(json, command);
  json.end_array();
  json.key("files").begin_array().end_array();
  json.key("errors").begin_array().end_array();
  json.key("status").number(0);
  json.end_object();
  json.finish();
}

}  // namespace ckpt::cli
