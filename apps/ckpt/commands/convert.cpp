// SPDX-License-Identifier: BSD-3-Clause
#include <memory>

#include <CLI/CLI.hpp>

#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

struct ConvertOptions {
  Convert edit;
  std::string device_tag;
  std::vector<std::string> dtypes;
  std::string on_overflow;
};

Result<std::vector<Edit>> make_edits(const ConvertOptions& options) {
  auto edit = options.edit;
  edit.device_tag_cpu = !options.device_tag.empty();
  for (const auto& text : options.dtypes) {
    CKPT_ASSIGN_OR_RETURN(auto rule, parse_dtype_rule(text));
    edit.dtypes.push_back(std::move(rule));
  }
  if (options.on_overflow == "clamp") edit.on_overflow = OnOverflow::kClamp;
  if (options.on_overflow == "inf") edit.on_overflow = OnOverflow::kInf;
  return std::vector<Edit>{edit};
}

EditMaker attach_edit(CLI::App& app) {
  auto options = std::make_shared<ConvertOptions>();
  auto& edit = options->edit;
  app.add_flag("--state-dict", edit.state_dict,
               "The file's one state dict, or the one of --root, becomes the whole file");
  app.add_flag("--tensors-only", edit.tensors_only,
               "The same, and of the state dict only its tensors: no _metadata, no _extra_state");
  app.add_flag("--weights-only", edit.weights_only,
               "Make a file that loads with weights_only=True: what it refuses becomes a plain value, or "
               "goes and is listed");
  auto* dtype =
      app.add_option("--dtype", options->dtypes,
                     "Dtype that tensors become: DTYPE for all floating ones, PATTERN=DTYPE for keys; "
                     "repeatable, the last that means a key counts");
  dtype->option_text("[PATTERN=]DTYPE ...")->allow_extra_args(false);
  app.add_option("--on-overflow", options->on_overflow,
                 "What a dtype is too small for: error (nothing is written; the default), clamp (its largest "
                 "number), inf (as PyTorch does)")
      ->check(one_of({"error", "clamp", "inf"}))
      ->option_text("CHOICE")
      ->needs(dtype);
  app.add_flag("--compact", edit.compact,
               "Give every view a storage of its own, dense and no larger than needed");
  app.add_flag("--dedupe", edit.dedupe, "Let storages with equal bytes be one");
  app.add_option("--device-tag", options->device_tag,
                 "Device that every storage is said to have lain on: cpu")
      ->check(one_of({"cpu"}))
      ->option_text("DEVICE");
  return [options] { return make_edits(*options); };
}

}  // namespace

Command convert_command() {
  return editing_command("convert", "", "Write another container, only the weights, or a leaner file",
                         manual_convert(), attach_edit);
}

}  // namespace ckpt::cli
