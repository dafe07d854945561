// SPDX-License-Identifier: BSD-3-Clause
#include <memory>

#include <CLI/CLI.hpp>

#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"

namespace ckpt::cli {
namespace {

struct StripOptions {
  std::vector<std::string> wrappers;
};

Result<std::vector<Edit>> make_edits(const StripOptions& options) {
  StripWrappers strip;
  for (const auto& text : options.wrappers) {
    CKPT_ASSIGN_OR_RETURN(auto wrapper, parse_wrapper(text));
    strip.wrappers.push_back(std::move(wrapper));
  }
  return std::vector<Edit>{std::move(strip)};
}

EditMaker attach_edit(CLI::App& app) {
  auto options = std::make_shared<StripOptions>();
  app.add_option("--wrapper", options->wrappers,
                 "Another name that a wrapper of yours puts into keys; repeatable")
      ->option_text("NAME")
      ->allow_extra_args(false);
  return [options] { return make_edits(*options); };
}

}  // namespace

Command strip_dataparallel_command() {
  return editing_command("strip-dataparallel", "strip",
                         "Remove 'module.' and other wrappers' names from keys", manual_strip_dataparallel(),
                         attach_edit);
}

}  // namespace ckpt::cli
