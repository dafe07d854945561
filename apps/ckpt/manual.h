// SPDX-License-Identifier: BSD-3-Clause
// Help: what `--help` and `ckpt help COMMAND` print. Options come from the parser, prose from the Markdown
// beside the command's source.
#pragma once

#include <span>
#include <string>

#include "command.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

std::string usage_text(const Command& command, const CLI::App& app);
void print_manual(const Command& command, Stream& out);

/// The same as a document of --json, with the program's version.
void print_help_document(std::span<const Command> commands, Stream& out);

}  // namespace ckpt::cli
