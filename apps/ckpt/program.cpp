// SPDX-License-Identifier: BSD-3-Clause
// Arguments → a command → exit status.
#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "back_ends.h"
#include "ckpt/base/text.h"
#include "ckpt/version.h"
#include "command.h"
#include "manual.h"
#include "parser.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

constexpr std::string_view kHelp =
    "help";  // a command, but for the table; what is printed about it is told of all commands

void print_overview(Stream& out) {
  out.print(
      "ckpt looks into PyTorch checkpoints and edits them without running a pickle.\n\nUsage: ckpt COMMAND "
      "[OPTIONS] FILE...\n\nCommands:\n");
  for (const auto& command : commands()) {
    out.format("  {:<20} {}", command.name, command.summary);
    out.print(command.alias.empty() ? "\n" : fmt::format(" (short: {})\n", command.alias));
  }
  out.print("  help                 Show the manual of a command: ckpt help COMMAND\n\n");
  out.print(
      "'ckpt COMMAND --help' lists a command's options, 'ckpt --version -v' what can compute on this "
      "machine.\n");
}

ExitCode show_overview(Console& console) {
  if (console.json) {
    print_help_document(commands(), console.out);
  } else {
    print_overview(console.out);
  }
  return ExitCode::kDone;
}

ExitCode show_manual(const std::vector<std::string>& arguments, Console& console) {
  const auto name = std::find_if(arguments.begin() + 1, arguments.end(),
                                 [](const std::string& word) { return word != "--json"; });
  if (name == arguments.end() || *name == kHelp || *name == "-h" || *name == "--help")
    return show_overview(console);
  const auto* command = find_command(*name);
  if (command == nullptr) return fail(kHelp, unknown_command(*name), console);
  if (console.json) {
    print_help_document({command, 1}, console.out);
  } else {
    print_manual(*command, console.out);
  }
  return ExitCode::kDone;
}

ExitCode show_version(const std::vector<std::string>& arguments, Console& console) {
  const auto is_verbose = [](const std::string& word) { return word == "-v" || word == "--verbose"; };
  if (console.json) {
    print_help_document({}, console.out);
  } else {
    console.out.format("ckpt {}\n", kVersion);
    if (std::any_of(arguments.begin(), arguments.end(), is_verbose)) print_back_ends(console.out);
  }
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
    if (console.json) {
      print_help_document({&command, 1}, console.out);
    } else {
      console.out.print(usage_text(command, app));
    }
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
  if (first == "-h" || first == "--help") return show_overview(console);
  if (first == "--version") return show_version(arguments, console);
  if (first == kHelp) return show_manual(arguments, console);
  const auto* command = find_command(first);
  if (command == nullptr && first.starts_with('-')) {
    const Error error(ErrorCode::kUsage, fmt::format("no command is called {}", ckpt::quoted(first)));
    return fail(kHelp, Error(error).with_hint("options stand behind the command"), console);
  }
  if (command == nullptr) return fail(kHelp, unknown_command(first), console);
  if (std::find(arguments.begin() + 1, arguments.end(), "--version") != arguments.end())
    return show_version(arguments, console);
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
