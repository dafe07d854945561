// SPDX-License-Identifier: BSD-3-Clause
#include <memory>

#include <CLI/CLI.hpp>

#include "commands/all.h"
#include "manuals.h"
#include "options/common.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct StripOptions {
  CommonOptions common;
  InputOptions input;
  OutputFlags output;
  std::vector<std::string> wrappers;
};

ExitCode run(const StripOptions& options, Console& console) {
  options.common.apply(console);
  Plan plan;
  plan.roots = options.input.roots;
  plan.allow_unmatched = options.output.allow_unmatched;
  plan.optimizer = options.output.optimizer_policy();
  StripWrappers strip;
  for (auto wrapper : options.wrappers) {
    while (wrapper.ends_with('.')) wrapper.pop_back();
    if (wrapper.empty() || wrapper.find('.') != wrapper.npos) {
      return fail("strip-dataparallel", Error(ErrorCode::kUsage, "a wrapper is one name without dots"),
                  console);
    }
    strip.wrappers.push_back(std::move(wrapper));
  }
  plan.edits.emplace_back(std::move(strip));
  return rewrite("strip-dataparallel", options.input, options.output, plan, console);
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<StripOptions>();
  options->input.attach(app);
  app.add_option("--wrapper", options->wrappers,
                 "Another name that a wrapper of yours puts into keys; repeatable")
      ->option_text("NAME")
      ->allow_extra_args(false);
  options->output.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command strip_dataparallel_command() {
  return {"strip-dataparallel", "strip", "Remove 'module.' and other wrappers' names from keys",
          manual_strip_dataparallel(), attach};
}

}  // namespace ckpt::cli
