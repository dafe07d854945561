// SPDX-License-Identifier: BSD-3-Clause
// Commands that edit. Each has options of its own that make its edits; those for input, output and reports
// are the same for all, and are here.
#pragma once

#include "command.h"
#include "options/common.h"
#include "options/compute.h"
#include "options/input.h"
#include "options/output.h"

namespace ckpt::cli {

/// All options of an editing command but those that make its edits.
struct EditFrame {
  CommonOptions common;
  InputOptions input;
  OutputFlags output;
  ComputeFlags compute;

  /// In the order of the help: input, what `attach_own` binds, output, what all commands have. No FILE is
  /// needed where the plan is printed. `this` must outlive the parser.
  void attach(CLI::App& app, const std::function<void()>& attach_own);

  /// What stands around the edits.
  Plan plan(std::vector<Edit> edits) const;
};

/// A command of which only the options that make its edits have to be told.
Command editing_command(std::string_view name, std::string_view alias, std::string_view summary,
                        std::string_view manual, AttachEdit attach_edit);

}  // namespace ckpt::cli
