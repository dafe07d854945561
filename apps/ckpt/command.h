// SPDX-License-Identifier: BSD-3-Clause
// What a subcommand is: a name, a sentence, a manual, and a function that binds its options to a parser and
// returns what runs it. Parsing touches no file.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"
#include "console.h"
#include "exit_code.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

using Runner = std::function<ExitCode(Console&)>;

/// Makes the edits that options say. Reads the files they name: lists of patterns, a reference.
using EditMaker = std::function<Result<std::vector<Edit>>()>;

/// Binds the options that make an edit, and no others. The parser must outlive the result.
using AttachEdit = EditMaker (*)(CLI::App& app);

struct Command {
  std::string_view name;
  std::string_view alias;    ///< short name, if it has one
  std::string_view summary;  ///< one line, for the list of commands
  std::string_view manual;   ///< Markdown, examples first
  std::function<Runner(CLI::App& app)> attach;
  AttachEdit attach_edit = nullptr;       ///< of a command that edits; `apply -e` knows it by this
  std::string_view operands = "FILE...";  ///< for the line that tells the usage
};

/// Every command, in the order in which help lists them.
const std::vector<Command>& commands();

/// By name or short name; nullptr if there is none.
const Command* find_command(std::string_view name);

/// A name that no command has, with the nearest one.
Error unknown_command(const std::string& name);

/// Runs the program: parses `arguments` (without the program's name) and runs a command.
int run_program(const std::vector<std::string>& arguments, Console& console);

}  // namespace ckpt::cli
