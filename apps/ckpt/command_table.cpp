// SPDX-License-Identifier: BSD-3-Clause
// The one ordered list of commands; help, documents and tests read it.
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "commands/all.h"

namespace ckpt::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      inspect_command(), strip_dataparallel_command(), filter_keys_command(),   rename_keys_command(),
      merge_command(),   replace_head_command(),       freeze_report_command(), convert_command(),
      apply_command(),
  };
  return all;
}

const Command* find_command(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const auto& command : commands()) {
    if (name == command.name || name == command.alias) return &command;
  }
  return nullptr;
}

Error unknown_command(const std::string& name) {
  std::vector<std::string> names = {"help"};
  for (const auto& command : commands()) {
    names.emplace_back(command.name);
    if (!command.alias.empty()) names.emplace_back(command.alias);
  }
  Error error(ErrorCode::kUsage, fmt::format("no command is called {}", ckpt::quoted(name)));
  const auto near = nearest(name, names);
  return near.empty() ? error : std::move(error).with_hint(fmt::format("did you mean '{}'?", near));
}

}  // namespace ckpt::cli
