// SPDX-License-Identifier: BSD-3-Clause
// What all parsers of command lines have in common, and what they have against one, in our words.
#pragma once

#include <string>
#include <string_view>

#include "ckpt/base/result.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace ckpt::cli {

void set_up_parser(CLI::App& app);

/// kUsage, with the nearest option that exists as the hint.
Error usage_error(const CLI::ParseError& error, const CLI::App& app);

/// The hint where there is nothing to guess.
std::string see_help(std::string_view command);

}  // namespace ckpt::cli
