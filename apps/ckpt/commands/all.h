// SPDX-License-Identifier: BSD-3-Clause
// The commands, one function each, defined in the file of its name.
#pragma once

#include "command.h"

namespace ckpt::cli {

Command inspect_command();
Command strip_dataparallel_command();
Command filter_keys_command();
Command rename_keys_command();
Command merge_command();
Command replace_head_command();
Command freeze_report_command();
Command convert_command();
Command apply_command();

}  // namespace ckpt::cli
