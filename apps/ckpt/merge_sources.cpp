// SPDX-License-Identifier: BSD-3-Clause
#include "merge_sources.h"

#include <memory>
#include <utility>
#include <variant>

#include "ckpt/format/format.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

Result<std::shared_ptr<Checkpoint>> read_source(const std::string& file) {
  CKPT_ASSIGN_OR_RETURN(const auto source, open_input(file, ""));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(auto checkpoint, read_checkpoint(source, diagnostics, Intent::kRewrite));
  if (const auto* finding = diagnostics.first_error()) {
    return Error(ErrorCode::kRefused, finding->message)
        .in_file(source->name())
        .with_hint(
            "readers disagree about this file, so nothing is taken from it; 'ckpt inspect' shows what "
            "PyTorch "
            "sees");
  }
  auto located = format_of(checkpoint.format).locate_storages(checkpoint);
  if (!located.ok()) return std::move(located).error().in_file(source->name());
  return std::make_shared<Checkpoint>(std::move(checkpoint));
}

}  // namespace

Status open_merge_sources(Plan& plan) {
  for (auto& edit : plan.edits) {
    auto* merge = std::get_if<MergeTensors>(&edit);
    if (merge == nullptr) continue;
    for (auto& source : merge->sources) {
      if (source.checkpoint) continue;
      CKPT_ASSIGN_OR_RETURN(source.checkpoint, read_source(source.file));
    }
  }
  return {};
}

}  // namespace ckpt::cli
