// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>

#include "ckpt/edit/apply.h"
#include "ckpt/format/format.h"
#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "options/input.h"
#include "options/selection.h"

namespace ckpt::cli {
namespace {

struct FilterOptions {
  SelectionOptions selection;
  std::string like;
  std::optional<std::string> like_root;
  bool ignore_shape = false;
  bool strict = false;
  std::vector<std::string> dtypes;
  std::optional<std::uint64_t> min_bytes;
  std::optional<std::uint64_t> max_bytes;
  std::vector<std::string> entries;
};

Result<std::vector<ReferenceKey>> read_reference(const FilterOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const auto source, open_input(options.like, ""));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(auto reference, read_checkpoint(source, diagnostics));
  auto keys = reference_keys(reference, options.like_root);
  if (!keys.ok()) return std::move(keys).error().in_file(source->name());
  return keys;
}

Result<std::vector<Edit>> make_edits(const FilterOptions& options) {
  std::vector<Edit> edits;
  if (!options.entries.empty()) edits.emplace_back(DropEntries{options.entries});
  FilterKeys filter;
  CKPT_ASSIGN_OR_RETURN(filter.rules, options.selection.rules());
  for (const auto& name : options.dtypes) {
    CKPT_ASSIGN_OR_RETURN(const auto dtype, parse_dtype(name));
    filter.only_dtypes.push_back(dtype);
  }
  filter.min_bytes = options.min_bytes;
  filter.max_bytes = options.max_bytes;
  filter.ignore_shape = options.ignore_shape;
  filter.strict = options.strict;
  if (!options.like.empty()) {
    CKPT_ASSIGN_OR_RETURN(filter.like, read_reference(options));
  } else if (options.strict || options.ignore_shape || options.like_root) {
    return Error(ErrorCode::kUsage, "--strict, --ignore-shape and --like-root go with --like");
  }
  const bool filters = !filter.rules.empty() || !filter.only_dtypes.empty() || filter.min_bytes ||
                       filter.max_bytes || filter.like;
  if (filters) edits.emplace_back(std::move(filter));
  if (edits.empty()) {
    return Error(ErrorCode::kUsage,
                 "nothing to filter by: give --keep, --drop, --like, --only-dtype, --min-bytes, --max-bytes "
                 "or --drop-entry");
  }
  return edits;
}

EditMaker attach_edit(CLI::App& app) {
  auto options = std::make_shared<FilterOptions>();
  options->selection.attach(app);
  app.add_option("--like", options->like, "Keep only keys that this checkpoint has, with the same shape")
      ->option_text("REFERENCE");
  app.add_option("--like-root", options->like_root, "Path of the state dict in the reference")
      ->check(check_path)
      ->option_text("PATH");
  app.add_flag("--ignore-shape", options->ignore_shape, "With --like: shapes may differ");
  app.add_flag("--strict", options->strict,
               "With --like: exit with 1 and write nothing if keys are missing or shapes differ");
  app.add_option("--only-dtype", options->dtypes, "Keep only tensors of these dtypes")
      ->delimiter(',')
      ->option_text("D,...")
      ->allow_extra_args(false);
  app.add_option("--min-bytes", options->min_bytes, "Keep only tensors of at least N bytes")
      ->check(check_number)
      ->option_text("N");
  app.add_option("--max-bytes", options->max_bytes, "Keep only tensors of at most N bytes")
      ->check(check_number)
      ->option_text("N");
  app.add_option("--drop-entry", options->entries,
                 "Drop what stands at a path: an optimizer, an epoch; repeatable")
      ->option_text("PATH")
      ->allow_extra_args(false);
  return [options] { return make_edits(*options); };
}

}  // namespace

Command filter_keys_command() {
  return editing_command("filter-keys", "filter", "Keep or drop keys and entries", manual_filter_keys(),
                         attach_edit);
}

}  // namespace ckpt::cli
