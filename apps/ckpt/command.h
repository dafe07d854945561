// SPDX-License-Identifier: BSD-3-Clause
// What a subcommand is: a name, a sentence, a manual, and a function that binds its options to a parser and
// returns what runs it. Parsing touches no file.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "console.h"
#include "exit_code.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

using Runner = std::function<ExitCode(Console&)>;

struct Command {
  std::string_view name;
  std::string_view alias;    ///< short name; may be empty
  std::string_view summary;  ///< one line, for the list of commands
  std::string_view manual;   ///< Markdown, examples first
  Runner (*attach)(CLI::App& app);
  std::string_view operands = "FILE...";  ///< as usage lines show them
};

/// Every command, in the order in which help lists them.
const std::vector<Command>& commands();

/// Runs the program: parses `arguments` (without the program's name) and runs a command.
int run_program(const std::vector<std::string>& arguments, Console& console);

}  // namespace ckpt::cli
