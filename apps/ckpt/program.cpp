// SPDX-License-Identifier: BSD-3-Clause
// Arguments → a command → exit status. The only place where a usage error of the parser becomes text.
#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/version.h"
#include "command.h"
#include "manual.h"
#include "render/json.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

constexpr std::string_view kHelp = "help";  // a command, but for the table; its documents tell of names only

const Command* find_command(std::string_view name) {
  for (const auto& command : commands()) {
    if (name == command.name || name == command.alias) return &command;
  }
  return nullptr;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names = {std::string(kHelp)};
  for (const auto& command : commands()) {
    names.emplace_back(command.name);
    names.emplace_back(command.alias);
  }
  return names;
}

void print_overview(Stream& out) {
  out.print(
      "ckpt looks into PyTorch checkpoints and edits them without running a pickle.\n\nUsage: ckpt COMMAND "
      "[OPTIONS] FILE...\n\nCommands:\n");
  for (const auto& command : commands()) {
    out.format("  {:<20} {} (short: {})\n", command.name, command.summary, command.alias);
  }
  out.print("  help                 Show the manual of a command: ckpt help COMMAND\n\n");
  out.print("'ckpt COMMAND --help' lists a command's options.\n");
}

/// A name that no command has: as a command, or asked about.
ExitCode unknown_command(const std::string& name, Console& console) {
  Error error(ErrorCode::kUsage, fmt::format("no command is called {}", ckpt::quoted(name)));
  if (name.starts_with('-'))
    return fail(kHelp, std::move(error).with_hint("options stand behind the command"), console);
  const auto near = nearest(name, command_names());
  if (near.empty()) return fail(kHelp, error, console);
  return fail(kHelp, std::move(error).with_hint(fmt::format("did you mean '{}'?", near)), console);
}

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

/// The words, with the nearest option that exists.
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
  return std::move(described).with_hint(fmt::format("see 'ckpt {} --help'", app.get_name()));
}

ExitCode show_manual(const std::vector<std::string>& arguments, Console& console) {
  const auto name = std::find_if(arguments.begin() + 1, arguments.end(),
                                 [](const std::string& word) { return word != "--json"; });
  if (name == arguments.end() || *name == kHelp || *name == "-h" || *name == "--help") {
    print_overview(console.out);
    return ExitCode::kDone;
  }
  const auto* command = find_command(*name);
  if (command == nullptr) return unknown_command(*name, console);
  print_manual(*command, console.out);
  return ExitCode::kDone;
}

ExitCode run_command(const Command& command, std::vector<std::string> arguments, Console& console) {
  CLI::App app{std::string(command.summary), std::string(command.name)};
  set_up_parser(app);
  const auto runner = command.attach(app);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    console.out.print(usage_text(command, app));
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    return fail(command.name, usage_error(error, app), console);
  }
  return runner(console);
}

ExitCode dispatch(const std::vector<std::string>& arguments, Console& console) {
  if (arguments.empty()) {
    print_overview(console.err);
    return ExitCode::kCouldNotDoIt;
  }
  const auto& first = arguments.front();
  if (first == "-h" || first == "--help") {
    print_overview(console.out);
    return ExitCode::kDone;
  }
  if (first == "--version") {
    console.out.format("ckpt {}\n", kVersion);
    return ExitCode::kDone;
  }
  if (first == kHelp) return show_manual(arguments, console);
  const auto* command = find_command(first);
  if (command == nullptr) return unknown_command(first, console);
  if (std::find(arguments.begin() + 1, arguments.end(), "--version") != arguments.end())
    return dispatch({"--version"}, console);
  return run_command(*command, {arguments.begin() + 1, arguments.end()}, console);
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, Console& console) {
  console.arguments = arguments;
  console.json = std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
  auto status = dispatch(arguments, console);
  console.out.flush();
  if (const auto failure = console.out.failure(); !failure.empty()) {
    print_error(console, Error(ErrorCode::kIo, "cannot write: " + failure).in_file("standard output"));
    status = ExitCode::kCouldNotDoIt;
  }
  console.err.flush();
  return static_cast<int>(status);
}

}  // namespace ckpt::cli
