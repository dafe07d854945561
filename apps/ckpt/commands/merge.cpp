// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>

#include "ckpt/format/format.h"
#include "commands/all.h"
#include "manuals.h"
#include "options/common.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct MergeOptions {
  CommonOptions common;
  InputOptions input;  ///< BASE and OTHERs
  OutputFlags output;
  std::optional<std::string> other_root;
  std::string keys = "base";
  std::string on_shape_mismatch = "error";
  std::string dtype;
};

/// Read to be copied from: readers must agree about it, as about what is rewritten.
Result<std::shared_ptr<Checkpoint>> read_other(const std::string& file) {
  CKPT_ASSIGN_OR_RETURN(const auto source, open_input(file, ""));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(auto checkpoint, read_checkpoint(source, diagnostics, Intent::kRewrite));
  if (const auto* finding = diagnostics.first_error()) {
    return Error(ErrorCode::kRefused, finding->message)
        .in_file(source->name())
        .with_hint(
            "readers disagree about this file, so nothing is taken from it; 'ckpt inspect' shows what "
            "PyTorch sees");
  }
  auto located = format_of(checkpoint.format).locate_storages(checkpoint);
  if (!located.ok()) return std::move(located).error().in_file(source->name());
  return std::make_shared<Checkpoint>(std::move(checkpoint));
}

MergeTensors::Keys parse_keys(const std::string& word) {
  if (word == "union") return MergeTensors::Keys::kUnion;
  if (word == "intersection") return MergeTensors::Keys::kIntersection;
  return word == "equal" ? MergeTensors::Keys::kEqual : MergeTensors::Keys::kBase;
}

MergeTensors::OnShapeMismatch parse_on_shape_mismatch(const std::string& word) {
  if (word == "keep-base") return MergeTensors::OnShapeMismatch::kKeepBase;
  return word == "take-other" ? MergeTensors::OnShapeMismatch::kTakeOther
                              : MergeTensors::OnShapeMismatch::kError;
}

MergeTensors::OnDtypeMismatch parse_dtype(const std::string& word) {
  if (word == "base") return MergeTensors::OnDtypeMismatch::kToBase;
  return word == "other" ? MergeTensors::OnDtypeMismatch::kTakeOther : MergeTensors::OnDtypeMismatch::kError;
}

Result<Plan> make_plan(const MergeOptions& options) {
  Plan plan;
  plan.roots = options.input.roots;
  plan.allow_unmatched = options.output.allow_unmatched;
  plan.optimizer = options.output.optimizer_policy();
  MergeTensors merge;
  merge.keys = parse_keys(options.keys);
  merge.on_shape_mismatch = parse_on_shape_mismatch(options.on_shape_mismatch);
  merge.on_dtype_mismatch = parse_dtype(options.dtype);
  for (std::size_t i = 1; i < options.input.files.size(); ++i) {
    const auto& file = options.input.files[i];
    CKPT_ASSIGN_OR_RETURN(auto checkpoint, read_other(file));
    merge.sources.push_back({file, options.other_root, std::move(checkpoint)});
  }
  plan.edits.emplace_back(std::move(merge));
  return plan;
}

ExitCode run(const MergeOptions& options, Console& console) {
  options.common.apply(console);
  auto base = options.input;
  base.files.resize(1);
  if (auto usage = options.output.check(base.files); !usage.ok())
    return fail("merge", usage.error(), console);
  if (options.input.files.size() < 2) {
    return fail("merge", Error(ErrorCode::kUsage, "nothing to merge: give BASE and at least one OTHER"),
                console);
  }
  const auto plan = make_plan(options);
  if (!plan.ok()) return fail("merge", plan.error(), console);
  return rewrite("merge", base, options.output, *plan, console);
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<MergeOptions>();
  app.add_option("BASE OTHER", options->input.files,
                 "The checkpoint that is updated, and those whose tensors it gets; the last one wins")
      ->required()
      ->option_text("...");
  app.add_option("--root", options->input.roots,
                 "Path of the base's state dict; repeatable. Default: every one")
      ->check(check_path)
      ->option_text("PATH")
      ->allow_extra_args(false);
  app.add_option("--other-root", options->other_root, "Path of the state dict in the others")
      ->check(check_path)
      ->option_text("PATH");
  app.add_option(
         "--keys", options->keys,
         "Keys of the result: base (those of the base), union, intersection, or equal (all files must "
         "have the same)")
      ->check(one_of({"base", "union", "intersection", "equal"}))
      ->option_text("CHOICE");
  app.add_option("--on-shape-mismatch", options->on_shape_mismatch,
                 "Where shapes differ: error, keep-base or take-other")
      ->check(one_of({"error", "keep-base", "take-other"}))
      ->option_text("CHOICE");
  app.add_option("--dtype", options->dtype,
                 "Where dtypes differ: base (values are converted) or other; an error if not said")
      ->check(one_of({"base", "other"}))
      ->option_text("CHOICE");
  options->output.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command merge_command() {
  return {"merge", "", "Update a checkpoint with tensors of others", manual_merge(), attach, "BASE OTHER..."};
}

}  // namespace ckpt::cli
