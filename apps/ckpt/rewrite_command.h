// SPDX-License-Identifier: BSD-3-Clause
// What every editing command does once it has its Plan: for each input read, apply, lay out, write, verify,
// publish and report. --dry-run stops in front of the writing, --print-plan in front of the inputs.
#pragma once

#include <string_view>

#include "ckpt/edit/plan.h"
#include "console.h"
#include "edit_command.h"
#include "exit_code.h"

namespace ckpt::cli {

/// `input`: the files to edit, whatever `frame` says of them.
ExitCode rewrite(std::string_view command, const InputOptions& input, const EditFrame& frame, Plan plan,
                 Console& console);

/// An error found before any input was read: printed, or as the JSON document.
ExitCode fail(std::string_view command, const Error& error, Console& console);

}  // namespace ckpt::cli
