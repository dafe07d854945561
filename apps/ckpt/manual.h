// SPDX-License-Identifier: BSD-3-Clause
// Help: what `--help` and `ckpt help COMMAND` print. Options come from the parser, prose from the Markdown
// beside the command's source.
#pragma once

#include <string>

#include "command.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

/// What every command's parser has in common.
void set_up_parser(CLI::App& app);
std::string usage_text(const Command& command, const CLI::App& app);
void print_manual(const Command& command, Stream& out);

}  // namespace ckpt::cli
