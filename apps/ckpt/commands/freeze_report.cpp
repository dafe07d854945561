// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/model/key_path.h"
#include "commands/all.h"
#include "logging.h"
#include "manuals.h"
#include "options/common.h"
#include "options/compute.h"
#include "options/input.h"
#include "options/selection.h"
#include "progress_bar.h"
#include "render/freeze.h"
#include "render/json.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct FreezeOptions {
  CommonOptions common;
  InputOptions input;
  OrderedPatterns rules;
  std::optional<std::uint64_t> train_last;
  std::vector<std::string> buffers;
  std::vector<std::string> parameters;
  std::string groups = "1";
  std::string optimizer = "adamw";
  std::string base;
  ComputeFlags compute;
  std::optional<std::string> base_root;
  std::string emit;
  bool null = false;
  bool allow_unmatched = false;
};

/// A number is a depth, all else a regular expression.
Result<FreezeGrouping> parse_grouping(std::string_view text) {
  FreezeGrouping grouping;
  const auto* end = text.data() + text.size();
  const auto [stop, ec] = std::from_chars(text.data(), end, grouping.depth);
  if (ec == std::errc() && stop == end) return grouping;
  constexpr std::string_view kRegex = "re:";
  if (text.starts_with(kRegex)) text.remove_prefix(kRegex.size());
  CKPT_ASSIGN_OR_RETURN(grouping.expression, NamePattern::parse(std::string(kRegex) + std::string(text)));
  return grouping;
}

OptimizerKind parse_optimizer(std::string_view name) {
  for (const auto kind : {OptimizerKind::kSgd, OptimizerKind::kMomentum, OptimizerKind::kAdam}) {
    if (name == optimizer_kind_name(kind)) return kind;
  }
  return OptimizerKind::kAdamW;
}

Result<std::vector<NamePattern>> read_all(const std::vector<std::string>& arguments, bool null) {
  std::vector<NamePattern> out;
  for (const auto& argument : arguments) {
    CKPT_ASSIGN_OR_RETURN(auto patterns, read_patterns(argument, null));
    for (auto& pattern : patterns) out.push_back(std::move(pattern));
  }
  return out;
}

Result<FreezeQuestion> make_question(const FreezeOptions& options) {
  if (!options.emit.empty() && (options.common.json || !options.base.empty()))
    return Error(ErrorCode::kUsage, "--emit goes with neither --json nor --base");
  if (!options.emit.empty() && options.input.files.size() > 1)
    return Error(ErrorCode::kUsage,
                 fmt::format("--emit takes one file, found {}", options.input.files.size()));
  if (options.base_root && options.base.empty())
    return Error(ErrorCode::kUsage, "--base-root goes with --base");
  if (options.base == "-" && std::count(options.input.files.begin(), options.input.files.end(), "-") > 0)
    return Error(ErrorCode::kUsage, "standard input is named twice");
  FreezeQuestion question;
  question.roots = options.input.roots;
  question.train_last = options.train_last;
  question.optimizer = parse_optimizer(options.optimizer);
  question.allow_unmatched = options.allow_unmatched;
  CKPT_ASSIGN_OR_RETURN(question.grouping, parse_grouping(options.groups));
  CKPT_ASSIGN_OR_RETURN(auto rules, options.rules.read(options.null));
  for (auto& [freeze, pattern] : rules) question.rules.push_back({!freeze, std::move(pattern)});
  CKPT_ASSIGN_OR_RETURN(question.buffers, read_all(options.buffers, options.null));
  CKPT_ASSIGN_OR_RETURN(question.parameters, read_all(options.parameters, options.null));
  return question;
}

/// The file of --base, read once for all inputs.
struct Base {
  std::shared_ptr<const ByteSource> source;
  Checkpoint checkpoint;
};

Result<std::optional<Base>> read_base(const FreezeOptions& options) {
  std::optional<Base> base;
  if (options.base.empty()) return base;
  base.emplace();
  CKPT_ASSIGN_OR_RETURN(base->source, open_input(options.base, ""));
  Diagnostics diagnostics;
  CKPT_ASSIGN_OR_RETURN(base->checkpoint, read_checkpoint(base->source, diagnostics));
  return base;
}

class Answer {
 public:
  Answer(const FreezeOptions& options, const FreezeQuestion& question, std::optional<Base>& base,
         Console& console)
      : options_(options), question_(question), base_(base), console_(console) {}

  Status find(const std::string& path) {
    result_.file = path;
    CKPT_ASSIGN_OR_RETURN(source_, open_input(path, ""));
    log_step(fmt::format("reading {} ({})", source_->name(), human_bytes(source_->size())));
    Diagnostics diagnostics;
    CKPT_ASSIGN_OR_RETURN(result_.checkpoint, read_checkpoint(source_, diagnostics));
    log_step("read");
    result_.bytes = source_->size();
    result_.findings = diagnostics.findings();
    result_.optimizer = question_.optimizer;
    CKPT_ASSIGN_OR_RETURN(result_.reports, freeze_report(result_.checkpoint, question_));
    log_step("decided");
    return base_ ? compare() : Status();
  }

  const FreezeResult& result() const { return result_; }

  /// The state dict that --emit is for: the only one with parameters.
  Result<const FreezeReport*> emitted() const {
    const FreezeReport* found = nullptr;
    std::vector<std::string> roots;
    for (const auto& report : result_.reports) {
      if (report.total.parameters.tensors == 0) continue;
      found = &report;
      roots.push_back(quoted_path(report.root));
    }
    if (roots.size() == 1) return found;
    if (roots.empty()) return Error(ErrorCode::kNotFound, "no state dict of the file has parameters");
    return Error(ErrorCode::kUsage, fmt::format("--emit takes one state dict, found {}: {}", roots.size(),
                                                fmt::join(roots, ", ")))
        .with_hint("choose one with --root PATH");
  }

 private:
  Status compare() {
    result_.base = options_.base;
    std::unique_ptr<ProgressBar> bar;
    if (ProgressBar::wanted(console_))
      bar = std::make_unique<ProgressBar>(console_, "comparing " + printable(result_.file));
    for (const auto& report : result_.reports) {
      auto dict = choose_base(base_->checkpoint, report.root, options_.base_root);
      if (!dict.ok()) return std::move(dict).error().in_file(base_->source->name());
      CKPT_ASSIGN_OR_RETURN(auto comparison, compare_with_base(result_.checkpoint, report, base_->checkpoint,
                                                               *dict, options_.compute.threads, bar.get()));
      result_.comparisons.push_back(std::move(comparison));
    }
    log_step("compared");
    return {};
  }

  const FreezeOptions& options_;
  const FreezeQuestion& question_;
  std::optional<Base>& base_;
  Console& console_;
  std::shared_ptr<const ByteSource> source_;
  FreezeResult result_;
};

Status emit(const FreezeOptions& options, const Answer& answer, Console& console) {
  CKPT_ASSIGN_OR_RETURN(const auto* report, answer.emitted());
  const auto& result = answer.result();
  if (options.emit == "python") {
    emit_python(result, *report, console.out);
  } else if (options.emit == "json") {
    emit_json(result, *report, console.out);
  } else {
    emit_names(result, *report, options.null ? '\0' : '\n', console.out);
  }
  if (console.quiet) return {};
  console.out.flush();
  for (const auto& note : freeze_notes(result, *report)) console.err.format("note: {}\n", note);
  return {};
}

Status show(const FreezeOptions& options, const Answer& answer, bool first, Console& console) {
  if (!options.emit.empty()) return emit(options, answer, console);
  if (console.quiet) return {};
  if (!first) console.out.print("\n");
  print_freeze(answer.result(), console.out);
  return {};
}

ExitCode run(const FreezeOptions& options, Console& console) {
  options.common.apply(console);
  const auto question = make_question(options);
  if (!question.ok()) return fail("freeze-report", question.error(), console);
  auto base = read_base(options);
  if (!base.ok()) return fail("freeze-report", base.error(), console);
  std::optional<JsonDocument> document;
  if (console.json) document.emplace(console.out, "freeze-report");
  std::vector<Error> errors;
  bool first = true;
  for (const auto& path : options.input.files) {
    Answer answer(options, *question, *base, console);
    auto done = answer.find(path);
    if (done.ok() && document) {
      write_freeze(document->writer(), answer.result());
    } else if (done.ok()) {
      done = show(options, answer, first, console);
      first = false;
    }
    if (done.ok()) continue;
    errors.push_back(std::move(done).error().in_file(path == "-" ? "standard input" : path));
    if (document) {
      write_no_freeze(document->writer(), path);
    } else {
      print_error(console, errors.back());
    }
  }
  const auto status = errors.empty() ? ExitCode::kDone : ExitCode::kCouldNotDoIt;
  if (document) document->end(errors, status);
  return status;
}

void attach_kinds(FreezeOptions& options, CLI::App& app) {
  app.add_option("--buffers", options.buffers, "These keys are buffers; repeatable")
      ->option_text("PATTERN")
      ->allow_extra_args(false);
  app.add_option("--parameters", options.parameters,
                 "These keys are parameters, where nothing in the file tells; repeatable")
      ->option_text("PATTERN")
      ->allow_extra_args(false);
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<FreezeOptions>();
  options->input.attach(app);
  options->rules.attach(app,
                        {"--freeze",
                         "Freeze the parameters whose key matches; repeatable, the last --freeze or --train "
                         "that matches decides"},
                        {"--train", "Train the parameters whose key matches; repeatable"});
  app.add_option(
         "--train-last", options->train_last,
         "Freeze all but the last N parameters, as model.parameters() counts them, before other rules")
      ->check(check_number)
      ->option_text("N");
  attach_kinds(*options, app);
  app.add_option("--groups", options->groups,
                 "Sum up by the first DEPTH levels of modules, or by what REGEX captures of a key; default 1")
      ->option_text("DEPTH|REGEX");
  app.add_option("--optimizer-kind", options->optimizer,
                 "Whose memory is counted: sgd, momentum, adam or adamw (default)")
      ->check(one_of({"sgd", "momentum", "adam", "adamw"}))
      ->option_text("KIND");
  app.add_option("--base", options->base,
                 "Say which tensors are equal, bit for bit, to those of this checkpoint")
      ->option_text("FILE");
  app.add_option("--base-root", options->base_root, "Path of the state dict in the base")
      ->check(check_path)
      ->option_text("PATH");
  app.add_option("--emit", options->emit,
                 "Print what the training script needs instead of the report: json, python or names")
      ->check(one_of({"json", "python", "names"}))
      ->option_text("WHAT");
  app.add_flag("-0,--null", options->null,
               "With --emit names: end each key with NUL instead of a newline; lists in @FILE likewise");
  app.add_flag("--allow-unmatched", options->allow_unmatched, "Accept patterns that match nothing");
  options->compute.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command freeze_report_command() {
  return {"freeze-report", "freeze", "Say which parameters train under a freeze, and what that costs",
          manual_freeze_report(), attach};
}

}  // namespace ckpt::cli
