// SPDX-License-Identifier: BSD-3-Clause
// A command line in one string → its words, as a POSIX shell forms them, and nothing else that a shell does:
//
//   blanks and newlines     end a word
//   '…'                     stands for itself, up to the next single quote
//   "…"                     stands for itself, but \" \\ \$ \` are what follows the backslash
//   \c                      is c; a backslash in front of a newline goes, and the newline with it
//   anything else           is itself: $ ` * ? ~ # ; | & < > ( ) mean nothing
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/result.h"

namespace ckpt::cli {

/// Quotes that touch belong to one word, and '' is an empty one.
/// Errors: kUsage for a quote without its end, and for a backslash with nothing behind it.
Result<std::vector<std::string>> shell_words(std::string_view text);

}  // namespace ckpt::cli
