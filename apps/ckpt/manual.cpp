// SPDX-License-Identifier: BSD-3-Clause
#include "manual.h"

#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace ckpt::cli {
namespace {

constexpr std::size_t kNameColumn = 26;
constexpr std::size_t kWidth = 80;

/// "-o, --output FILE".
std::string spelled(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  auto text = fmt::format("{}", fmt::join(names, ", "));
  if (option.get_type_size_max() > 0 && !option.get_option_text().empty())
    text += " " + option.get_option_text();
  return text;
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

}  // namespace

void set_up_parser(CLI::App& app) {
  app.set_help_flag("-h,--help", "Print this help");
  app.allow_windows_style_options(false);
}

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

}  // namespace ckpt::cli
