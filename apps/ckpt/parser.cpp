// SPDX-License-Identifier: BSD-3-Clause
#include "parser.h"

#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::cli {
namespace {

/// What the parser has against a command line, in our words.
std::string describe_parse_error(const CLI::ParseError& error, const CLI::App& app) {
  std::string message = error.what();
  const auto name = message.substr(0, message.find(':'));
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    std::vector<std::string> words;
    for (const auto& word : app.remaining(true)) words.push_back(ckpt::quoted(word));
    return fmt::format("unknown option{} {}", words.size() > 1 ? "s" : "", fmt::join(words, ", "));
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    const bool missing = message.ends_with("missing");
    return name + (missing ? " needs a value" : " is given more than once");
  }
  return printable(message);
}

}  // namespace

void set_up_parser(CLI::App& app) {
  app.set_help_flag("-h,--help", "Print this help");
  app.allow_windows_style_options(false);
}

Error usage_error(const CLI::ParseError& error, const CLI::App& app) {
  Error described(ErrorCode::kUsage, describe_parse_error(error, app));
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const auto& word : app.remaining(true)) {
    const auto name = word.substr(0, word.find('='));
    if (const auto near = nearest(name, names); !near.empty()) {
      return std::move(described).with_hint(fmt::format("did you mean {}?", near));
    }
  }
  return std::move(described).with_hint(see_help(app.get_name()));
}

std::string see_help(std::string_view command) {
  return fmt::format("see 'ckpt {} --help'", command);
}

}  // namespace ckpt::cli
