// SPDX-License-Identifier: BSD-3-Clause
// Command lines as text that a shell takes: for hints and fixes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ckpt::cli {

/// A word for the shell: as it is where that is safe, else in single quotes.
std::string shell_word(std::string_view word);

/// `hint` with each line "REPEAT OPTION VALUE" spelled as the command line of `arguments` in which OPTION has
/// that value.
std::string with_command_lines(std::string_view hint, const std::vector<std::string>& arguments);

}  // namespace ckpt::cli
