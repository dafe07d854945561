// SPDX-License-Identifier: BSD-3-Clause
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/inspect/value_json.h"
#include "ckpt/inspect/values.h"
#include "ckpt/model/lookup.h"
#include "ckpt/model/role_evidence.h"
#include "ckpt/model/state_dicts.h"
#include "commands/all.h"
#include "logging.h"
#include "manuals.h"
#include "options/common.h"
#include "options/compute.h"
#include "options/input.h"
#include "options/selection.h"
#include "progress_bar.h"
#include "render/inspect_json.h"
#include "render/inspect_text.h"
#include "render/json.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

constexpr std::uint64_t kMostBins = 65536;
constexpr std::uint64_t kMostBinsInAll = std::uint64_t{16} << 20U;

struct InspectOptions {
  CommonOptions common;
  InputOptions input;
  bool summary = false;
  bool tree = false;
  bool keys = false;
  bool null = false;
  bool globals = false;
  bool stats = false;
  std::optional<std::uint64_t> bins;
  std::optional<std::uint64_t> depth;
  std::optional<std::uint64_t> values;
  std::vector<std::string> select;
  std::optional<std::string> get;
  std::string sort = "file";
  ComputeFlags compute;
};

/// The tensors to list: all, or those whose keys match a pattern, in the order asked for.
Result<std::vector<TensorId>> choose_tensors(const InspectOptions& options,
                                             const std::vector<NamePattern>& patterns,
                                             Checkpoint& checkpoint) {
  std::vector<bool> in_roots;
  if (!options.input.roots.empty()) {
    CKPT_ASSIGN_OR_RETURN(const auto chosen, choose_state_dicts(checkpoint, options.input.roots));
    in_roots.resize(checkpoint.state_dicts.size());
    for (const auto index : chosen) in_roots[index] = true;
  }
  std::vector<TensorId> out;
  std::vector<std::string> names;
  const PatternIndex index(patterns);
  std::vector<bool> matched(patterns.size());
  bool in_composite = false;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& tensor = checkpoint.tensors[id];
    if (tensor.has(kIsPart)) {
      if (in_composite) out.push_back(id);
      continue;
    }
    const bool named = tensor.state_dict != kNoIndex;
    const bool rooted = in_roots.empty() || (named && in_roots[tensor.state_dict]);
    bool selected = patterns.empty();
    if (named && rooted && !patterns.empty()) {
      index.for_matches(tensor.name, [&](std::size_t pattern) {
        matched[pattern] = true;
        selected = true;
      });
      names.emplace_back(tensor.name);
    }
    in_composite = rooted && selected;
    if (in_composite) out.push_back(id);
  }
  const auto idle = std::find(matched.begin(), matched.end(), false);
  if (idle != matched.end())
    return unmatched(patterns[static_cast<std::size_t>(idle - matched.begin())], std::move(names));
  sort_tensors(checkpoint, options.sort, out);
  return out;
}

/// One value, raw: for scripts.
Status print_value(const InspectOptions& options, const Checkpoint& checkpoint, Stream& out) {
  TensorId tensor = kNoIndex;
  const auto found =
      checkpoint.has_document() ? find_value(checkpoint, *options.get) : Result<FoundValue>(FoundValue{});
  const auto use =
      found.ok() && checkpoint.has_document() ? checkpoint.graph().resolve(found->value) : kNoUse;
  for (TensorId id = 0; id < checkpoint.tensors.size() && tensor == kNoIndex; ++id) {
    const auto& row = checkpoint.tensors[id];
    const bool in_object = row.use != kNoUse;  // else in a container without objects, or among constants
    const bool by_path =
        use != kNoUse && in_object && checkpoint.graph().resolve(row.use) == use && !row.has(kIsPart);
    const bool by_name = use == kNoUse && (row.state_dict != kNoIndex || !in_object) &&
                         (row.name == *options.get || checkpoint.path(row.place) == *options.get);
    if (by_path || by_name) tensor = id;
  }
  if (tensor != kNoIndex) {
    const auto& row = checkpoint.tensors[tensor];
    if (!options.values) {
      print_tensor_line(checkpoint, row, out);
      return {};
    }
    CKPT_ASSIGN_OR_RETURN(const auto values, first_values(checkpoint, row, *options.values));
    for (const auto& value : values) out.format("{}\n", value);
    return {};
  }
  if (!checkpoint.has_document()) {
    return Error(ErrorCode::kNotFound, fmt::format("no tensor is called {}", ckpt::quoted(*options.get)));
  }
  if (!found.ok()) return Error(found.error());
  if (const auto text = checkpoint.graph().string(use)) {
    out.format("{}\n", *text);
    return {};
  }
  CKPT_ASSIGN_OR_RETURN(const auto json, value_as_json(checkpoint, use));
  out.format("{}\n", json);
  return {};
}

struct Inspected {
  std::shared_ptr<const ByteSource> source;
  InspectedFile file;
};

Status look_at_values(const InspectOptions& options, Console& console, InspectedFile& file) {
  if (options.bins && *options.bins > kMostBinsInAll / std::max<std::size_t>(1, file.tensors.size()))
    return Error(ErrorCode::kUsage, fmt::format("{} bins for each of {} are too many to hold", *options.bins,
                                                counted(file.tensors.size(), "tensor")))
        .with_hint("choose tensors with --select, or fewer bins");
  ProgressBar bar(console, "reading");
  const StatisticsOptions asked{static_cast<std::size_t>(options.bins.value_or(0)), options.compute.threads};
  CKPT_ASSIGN_OR_RETURN(file.statistics, tensor_statistics(file.checkpoint, file.tensors, asked,
                                                           ProgressBar::wanted(console) ? &bar : nullptr));
  auto odd = find_odd_values(file.checkpoint, file.tensors, file.statistics);
  if (odd) file.findings.push_back(std::move(*odd));
  return {};
}

Status inspect_file(const InspectOptions& options, const std::vector<NamePattern>& patterns,
                    const std::string& path, Console& console, Inspected& out) {
  CKPT_ASSIGN_OR_RETURN(out.source, open_input(path, ""));
  log_step(fmt::format("reading {} ({})", out.source->name(), human_bytes(out.source->size())));
  Diagnostics diagnostics;
  out.file.name = path;
  out.file.bytes = out.source->size();
  CKPT_ASSIGN_OR_RETURN(out.file.checkpoint, read_checkpoint(out.source, diagnostics));
  log_step("read");
  note_roles(out.file.checkpoint);
  auto chosen = choose_tensors(options, patterns, out.file.checkpoint);
  if (!chosen.ok()) return std::move(chosen).error().in_file(out.source->name());
  out.file.tensors = std::move(chosen).value();
  look_closer(out.file, diagnostics);
  if (options.stats) {
    auto looked = look_at_values(options, console, out.file);
    if (!looked.ok()) return std::move(looked).error().in_file(out.source->name());
  }
  log_step("looked");
  return {};
}

Status show(const InspectOptions& options, Inspected& inspected, Console& console) {
  auto& out = console.out;
  if (options.get) return print_value(options, inspected.file.checkpoint, out);
  if (options.keys) {
    print_keys(inspected.file, options.null ? '\0' : '\n', out);
  } else if (console.quiet) {  // a report, not data: what is asked is whether the file can be read
  } else if (options.tree) {
    print_tree(inspected.file, options.depth, out);
  } else if (options.globals) {
    print_globals(inspected.file, out);
  } else {
    print_inspection(inspected.file, options.summary, console);
  }
  return {};
}

Result<std::vector<NamePattern>> read_selection(const InspectOptions& options) {
  std::vector<NamePattern> patterns;
  for (const auto& argument : options.select) {
    CKPT_ASSIGN_OR_RETURN(auto more, read_patterns(argument, options.null));
    for (auto& pattern : more) patterns.push_back(std::move(pattern));
  }
  const int views = static_cast<int>(options.summary) + static_cast<int>(options.tree) +
                    static_cast<int>(options.keys) + static_cast<int>(options.globals) +
                    static_cast<int>(options.get.has_value());
  if (views > 1)
    return Error(ErrorCode::kUsage, "--summary, --tree, --keys, --globals and --get exclude each other");
  if (options.values && !options.get) return Error(ErrorCode::kUsage, "--values goes with --get");
  if (options.stats && views > (options.summary ? 1 : 0))
    return Error(ErrorCode::kUsage, "--stats goes with the list of tensors, --summary or --json");
  if (options.bins && !options.stats) return Error(ErrorCode::kUsage, "--bins goes with --stats");
  if (options.bins && (*options.bins == 0 || *options.bins > kMostBins))
    return Error(ErrorCode::kUsage, fmt::format("--bins takes 1 to {}", kMostBins));
  if (options.depth && !options.tree) return Error(ErrorCode::kUsage, "--depth goes with --tree");
  return patterns;
}

ExitCode run(const InspectOptions& options, Console& console) {
  options.common.apply(console);
  const auto patterns = read_selection(options);
  if (!patterns.ok()) return fail("inspect", patterns.error(), console);
  std::optional<JsonDocument> document;
  if (console.json) document.emplace(console.out, "inspect");
  std::vector<Error> errors;
  auto status = ExitCode::kDone;
  bool first = true;
  for (const auto& path : options.input.files) {
    Inspected inspected;
    auto done = inspect_file(options, *patterns, path, console, inspected);
    if (done.ok() && document) {
      write_inspection(document->writer(), inspected.file);
    } else if (done.ok()) {
      const bool headed = !options.get && !options.keys && !console.quiet;
      if (!first && headed) console.out.print("\n");
      first = false;
      done = show(options, inspected, console);
      if (!done.ok()) done = std::move(done).error().in_file(path);
    }
    if (done.ok()) continue;
    status = ExitCode::kCouldNotDoIt;
    errors.push_back(std::move(done).error().in_file(path));
    if (document) {
      write_unreadable(document->writer(), path);
    } else {
      print_error(console, errors.back());
    }
  }
  if (document) document->end(errors, status);
  return status;
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<InspectOptions>();
  options->input.attach(app);
  app.add_flag("-s,--summary", options->summary, "Totals and findings only");
  app.add_flag("--tree", options->tree, "Tensors and bytes by module");
  app.add_option("--depth", options->depth, "With --tree: levels to show")
      ->check(check_number)
      ->option_text("N");
  app.add_flag("--keys", options->keys, "Keys of the state dicts, one a line");
  app.add_flag("-0,--null", options->null,
               "With --keys: end each key with NUL instead of a newline; lists in @FILE likewise");
  app.add_option("--select", options->select, "List only tensors whose key matches; repeatable")
      ->option_text("PATTERN")
      ->allow_extra_args(false);
  app.add_option("--get", options->get, "Print the value at a path, raw; a container as JSON")
      ->option_text("PATH");
  app.add_option("--values", options->values, "With --get of a tensor: its first N values")
      ->check(check_number)
      ->option_text("N");
  app.add_flag("--globals", options->globals, "Classes and functions that the pickle names");
  app.add_flag("--stats", options->stats,
               "Smallest, largest, mean, deviation, zeros, NaN, Inf of each tensor");
  app.add_option("--bins", options->bins, "With --stats: a histogram of N bins")
      ->check(check_number)
      ->option_text("N");
  app.add_option("--sort", options->sort, "Order of tensors: file, name or bytes")
      ->check(one_of({"file", "name", "bytes"}))
      ->option_text("ORDER");
  options->compute.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command inspect_command() {
  return {"inspect", "i", "Show what is in a checkpoint", manual_inspect(), attach};
}

}  // namespace ckpt::cli
