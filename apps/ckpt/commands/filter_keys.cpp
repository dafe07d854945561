// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/apply.h"
#include "ckpt/format/format.h"
#include "commands/all.h"
#include "manuals.h"
#include "options/common.h"
#include "options/selection.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct FilterOptions {
  CommonOptions common;
  InputOptions input;
  OutputFlags output;
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

Result<std::vector<Dtype>> parse_dtypes(const std::vector<std::string>& names) {
  std::vector<Dtype> dtypes;
  std::vector<std::string> known;
  for (const auto& info : all_dtypes()) known.emplace_back(info.name);
  for (const auto& name : names) {
    const auto dtype = dtype_by_name(name);
    if (!dtype) {
      Error error(ErrorCode::kUsage, fmt::format("unknown dtype {}", ckpt::quoted(name)));
      const auto meant = dtype_meant_by(name);
      const auto near = meant ? std::string(dtype_info(*meant).name) : nearest(name, known);
      return near.empty() ? std::move(error)
                          : std::move(error).with_hint(fmt::format("did you mean {}?", ckpt::quoted(near)));
    }
    dtypes.push_back(*dtype);
  }
  return dtypes;
}

Result<std::vector<ReferenceKey>> read_reference(const FilterOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const auto source, open_input(options.like, ""));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(auto reference, read_checkpoint(source, diagnostics));
  auto keys = reference_keys(reference, options.like_root);
  if (!keys.ok()) return std::move(keys).error().in_file(source->name());
  return keys;
}

Result<Plan> make_plan(const FilterOptions& options) {
  Plan plan;
  plan.roots = options.input.roots;
  plan.allow_unmatched = options.output.allow_unmatched;
  plan.optimizer = options.output.optimizer_policy();
  if (!options.entries.empty()) plan.edits.emplace_back(DropEntries{options.entries});
  FilterKeys filter;
  CKPT_ASSIGN_OR_RETURN(filter.rules, options.selection.rules());
  CKPT_ASSIGN_OR_RETURN(filter.only_dtypes, parse_dtypes(options.dtypes));
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
  if (filters) plan.edits.emplace_back(std::move(filter));
  if (plan.edits.empty()) {
    return Error(ErrorCode::kUsage,
                 "nothing to filter by: give --keep, --drop, --like, --only-dtype, --min-bytes, --max-bytes "
                 "or --drop-entry");
  }
  return plan;
}

ExitCode run(const FilterOptions& options, Console& console) {
  options.common.apply(console);
  const auto plan = make_plan(options);
  if (!plan.ok()) return fail("filter-keys", plan.error(), console);
  return rewrite("filter-keys", options.input, options.output, *plan, console);
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<FilterOptions>();
  options->input.attach(app);
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
  options->output.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command filter_keys_command() {
  return {"filter-keys", "filter", "Keep or drop keys and entries", manual_filter_keys(), attach};
}

}  // namespace ckpt::cli
