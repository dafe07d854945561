// SPDX-License-Identifier: BSD-3-Clause
#include "render/command_line.h"

#include "ckpt/edit/apply.h"

namespace ckpt::cli {
namespace {

/// "ckpt NAME OPTION VALUE" and the rest of the arguments, less what they said of OPTION. It stands in front,
/// where no '--' can make a file name of it.
std::string repeated(const std::vector<std::string>& arguments, std::string_view option,
                     std::string_view value) {
  std::string line = "ckpt";
  bool is_value = false;  // of the option's old mention
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    const bool is_old = is_value || word == option || word.starts_with(std::string(option) + '=');
    is_value = !is_value && word == option;
    if (!is_old) line += ' ' + shell_word(word);
    if (i == 0) line += ' ' + std::string(option) + ' ' + shell_word(value);
  }
  return line;
}

}  // namespace

std::string shell_word(std::string_view word) {
  constexpr std::string_view kSafe =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+=:,@%";
  if (!word.empty() && word.find_first_not_of(kSafe) == word.npos) return std::string(word);
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + '\'';
}

std::string with_command_lines(std::string_view hint, const std::vector<std::string>& arguments) {
  std::string out;
  while (true) {
    const auto end = hint.find('\n');
    auto line = hint.substr(0, end);
    if (!out.empty()) out += '\n';
    if (line.starts_with(kRepeat)) {
      line.remove_prefix(kRepeat.size() + 1);
      const auto space = line.find(' ');
      out += "    " + repeated(arguments, line.substr(0, space), line.substr(space + 1));
    } else {
      out += line;
    }
    if (end == hint.npos) return out;
    hint.remove_prefix(end + 1);
  }
}

}  // namespace ckpt::cli
