// SPDX-License-Identifier: BSD-3-Clause
// Draws initial values, for a judge that is not written in C++. Not a tool for people.
//
//   ckpt_init_tool VERSION <commands >bytes
//
// The commands are those of init_commands.h, the draws are those of PyTorch VERSION. Ends with 2 and a
// message where it can't be done.
#include <iostream>

#include "init_commands.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const auto version = ckpt::parse_torch_version(arguments[1]);
  if (!version.ok()) {
    std::cerr << version.error().text() << '\n';
    return 2;
  }
  try {
    ckpt::test::InitCommands commands(*version);
    for (std::string line; std::getline(std::cin, line);) std::cout << ckpt::as_text(commands.run(line));
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 2;
  }
  return std::cout.flush() ? 0 : 2;
}
