// SPDX-License-Identifier: BSD-3-Clause
// The one ordered list of commands; help, documents and tests read it.
#include "commands/all.h"

namespace ckpt::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      inspect_command(), strip_dataparallel_command(), filter_keys_command(),   rename_keys_command(),
      merge_command(),   replace_head_command(),       freeze_report_command(),
  };
  return all;
}

}  // namespace ckpt::cli
