// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>

#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct MergeOptions {
  std::vector<std::string> others;
  std::optional<std::string> other_root;
  std::string keys = "base";
  std::string on_shape_mismatch = "error";
  std::string dtype;
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

MergeTensors::OnDtypeMismatch parse_dtype_choice(const std::string& word) {
  if (word == "base") return MergeTensors::OnDtypeMismatch::kToBase;
  return word == "other" ? MergeTensors::OnDtypeMismatch::kTakeOther : MergeTensors::OnDtypeMismatch::kError;
}

Result<std::vector<Edit>> make_edits(const MergeOptions& options) {
  if (options.others.empty())
    return Error(ErrorCode::kUsage, "nothing to merge: give BASE and at least one OTHER");
  MergeTensors merge;
  merge.keys = parse_keys(options.keys);
  merge.on_shape_mismatch = parse_on_shape_mismatch(options.on_shape_mismatch);
  merge.on_dtype_mismatch = parse_dtype_choice(options.dtype);
  for (const auto& file : options.others) merge.sources.push_back({file, options.other_root});
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
                 "Where dtypes differ: base (values are converted) or other; an error if not said")
      ->check(one_of({"base", "other"}))
      ->option_text("CHOICE");
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
