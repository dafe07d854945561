// SPDX-License-Identifier: BSD-3-Clause
#include "merge_sources.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "ckpt/format/format.h"
#include "ckpt/io/whole_file.h"
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

/// What PEFT writes beside the weights of an adapter.
Result<std::optional<std::string>> read_adapter_config(const std::string& file) {
  constexpr std::uint64_t kLargest = 1U << 20U;
  const auto slash = file.rfind('/');
  const auto path = (slash == file.npos ? std::string() : file.substr(0, slash + 1)) + "adapter_config.json";
  auto text = read_whole_file(path, kLargest);
  if (text.ok()) return std::optional<std::string>(std::move(text).value());
  if (text.error().code() == ErrorCode::kNotFound) return std::optional<std::string>();
  return std::move(text).error();
}

}  // namespace

Status open_merge_sources(Plan& plan) {
  for (auto& edit : plan.edits) {
    auto* merge = std::get_if<MergeTensors>(&edit);
    if (merge == nullptr) continue;
    const bool of_adapters = merge->method && merge->method->method == MergeMethod::kLora;
    for (auto& source : merge->sources) {
      if (source.checkpoint) continue;
      CKPT_ASSIGN_OR_RETURN(source.checkpoint, read_source(source.file));
      if (!of_adapters || source.file == "-") continue;
      CKPT_ASSIGN_OR_RETURN(source.adapter_config, read_adapter_config(source.file));
    }
  }
  return {};
}

}  // namespace ckpt::cli
