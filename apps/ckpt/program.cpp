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

const Command* find_command(std::string_view name) {
  for (const auto& command : commands()) {
    if (name == command.name || name == command.alias) return &command;
  }
  return nullptr;
}

std::vector<std::string> command_names() {
  std::vector<std::string> names = {"help"};
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

ExitCode usage_error(std::string_view command, Error error, Console& console) {
  return fail(command, error, console);
}

/// Words of an unknown option, with the nearest one that exists.
Error describe_parse_error(const CLI::ParseError& error, const CLI::App& app) {
  std::string message = error.what();
  std::replace(message.begin(), message.end(), '\n', ' ');
  while (message.ends_with(' ')) message.pop_back();
  const auto is_upper = [&](std::size_t at) {
    return at < message.size() && message[at] >= 'A' && message[at] <= 'Z';
  };
  if (is_upper(0) && !is_upper(1)) message[0] = static_cast<char>(message[0] - 'A' + 'a');  // FILE stays
  Error described(ErrorCode::kUsage, printable(message));
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
  if (arguments.size() < 2) {
    print_overview(console.out);
    return ExitCode::kDone;
  }
  const auto* command = find_command(arguments[1]);
  if (command == nullptr) {
    return usage_error(
        "help", Error(ErrorCode::kUsage, fmt::format("no command is called {}", ckpt::quoted(arguments[1]))),
        console);
  }
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
    return usage_error(command.name, describe_parse_error(error, app), console);
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
  if (first == "help") return show_manual(arguments, console);
  const auto* command = find_command(first);
  if (command == nullptr) {
    Error error(ErrorCode::kUsage, fmt::format("no command is called {}", ckpt::quoted(first)));
    const auto near = nearest(first, command_names());
    if (near.empty()) return usage_error("ckpt", std::move(error), console);
    return usage_error("ckpt", std::move(error).with_hint(fmt::format("did you mean '{}'?", near)), console);
  }
  if (std::find(arguments.begin() + 1, arguments.end(), "--version") != arguments.end())
    return dispatch({"--version"}, console);
  return run_command(*command, {arguments.begin() + 1, arguments.end()}, console);
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, Console& console) {
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
