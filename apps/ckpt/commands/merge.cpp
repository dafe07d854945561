// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "options/merge_method.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct MergeOptions {
  std::vector<std::string> others;
  std::optional<std::string> other_root;
  std::string keys = "base";
  std::string on_shape_mismatch = "error";
  std::string dtype;
  MergeMethodOptions method;
};

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

/// Without a method, what decides where dtypes differ; with one, what the result has.
Status set_dtype(const std::string& word, MergeTensors& merge) {
  if (word == "other" && merge.method)
    return Error(ErrorCode::kUsage, "--dtype other goes without --method: give base or a dtype");
  if (word == "base") merge.on_dtype_mismatch = MergeTensors::OnDtypeMismatch::kToBase;
  if (word == "other") merge.on_dtype_mismatch = MergeTensors::OnDtypeMismatch::kTakeOther;
  if (word.empty() || word == "base" || word == "other") return {};
  CKPT_ASSIGN_OR_RETURN(merge.dtype, parse_dtype(word));
  if (merge.method) return {};
  return Error(ErrorCode::kUsage,
               fmt::format("--dtype {} goes with --method: without it give base or other", word));
}

Result<std::vector<Edit>> make_edits(const MergeOptions& options) {
  if (options.others.empty())
    return Error(ErrorCode::kUsage, "nothing to merge: give BASE and at least one OTHER");
  MergeTensors merge;
  merge.keys = parse_keys(options.keys);
  merge.on_shape_mismatch = parse_on_shape_mismatch(options.on_shape_mismatch);
  CKPT_ASSIGN_OR_RETURN(merge.method, options.method.recipe());
  CKPT_RETURN_IF_ERROR(set_dtype(options.dtype, merge));
  for (const auto& file : options.others) merge.sources.push_back({file, options.other_root});
  if (merge.method) CKPT_RETURN_IF_ERROR(check_recipe(*merge.method, merge.sources.size() + 1));
  return std::vector<Edit>{std::move(merge)};
}

void attach_choices(CLI::App& app, MergeOptions& options) {
  app.add_option("--other-root", options.other_root, "Path of the state dict in the others")
      ->check(check_path)
      ->option_text("PATH");
  app.add_option(
         "--keys", options.keys,
         "Keys of the result: base (those of the base), union, intersection, or equal (all files must "
         "have the same)")
      ->check(one_of({"base", "union", "intersection", "equal"}))
      ->option_text("CHOICE");
  app.add_option("--on-shape-mismatch", options.on_shape_mismatch,
                 "Where shapes differ: error, keep-base or take-other")
      ->check(one_of({"error", "keep-base", "take-other"}))
      ->option_text("CHOICE");
  app.add_option("--dtype", options.dtype,
                 "Where dtypes differ: base (values are converted) or other; an error if not said. With "
                 "--method the dtype of the result, the base's if not said")
      ->option_text("DTYPE");
  options.method.attach(app);
}

/// In `apply -e` the base is one of apply's files.
EditMaker attach_edit(CLI::App& app) {
  auto options = std::make_shared<MergeOptions>();
  app.add_option("OTHER", options->others, "Checkpoints whose tensors the file gets; the last one wins");
  attach_choices(app, *options);
  return [options] { return make_edits(*options); };
}

/// The first word is the base.
Runner attach(CLI::App& app) {
  auto frame = std::make_shared<EditFrame>();
  auto options = std::make_shared<MergeOptions>();
  frame->attach(app, [&] { attach_choices(app, *options); });
  return [frame, options](Console& console) {
    frame->common.apply(console);
    auto& files = frame->input.files;
    if (!files.empty()) options->others.assign(files.begin() + 1, files.end());
    auto edits = make_edits(*options);
    if (!edits.ok()) return fail("merge", edits.error(), console);
    auto base = frame->input;
    base.files.resize(1);
    return rewrite("merge", base, *frame, frame->plan(std::move(edits).value()), console);
  };
}

}  // namespace

Command merge_command() {
  return {"merge",        "",     "Update a checkpoint with tensors of others",
          manual_merge(), attach, attach_edit,
          "BASE OTHER..."};
}

}  // namespace ckpt::cli
