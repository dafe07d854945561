// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/plan_json.h"
#include "ckpt/io/whole_file.h"
#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "parser.h"
#include "rewrite_command.h"
#include "shell_words.h"

namespace ckpt::cli {
namespace {

constexpr std::string_view kName = "apply";

struct ApplyOptions {
  EditFrame frame;
  std::vector<std::string> edits;
};

/// One -e, understood.
struct EditLine {
  std::string text;
  std::unique_ptr<CLI::App> parser;
  EditMaker make_edits;
};

Error in_line(const std::string& text, const Error& error) {
  return Error(error.code(), fmt::format("-e {}: {}", ckpt::quoted(text), error.text()))
      .with_hint(error.hint());
}

/// A word that the edit's own options leave over.
Error left_over(const CLI::ExtrasError& error, const CLI::App& parser) {
  const auto word = parser.remaining(true).front();
  if (!word.starts_with('-') || word == "-") {
    return Error(ErrorCode::kUsage, fmt::format("{} belongs to no option", ckpt::quoted(word)))
        .with_hint("files stand outside of -e, behind the edits");
  }
  EditFrame frame;
  CLI::App outside;
  set_up_parser(outside);
  frame.attach(outside, [] {});
  const auto name = word.starts_with("--") ? word.substr(0, word.find('=')) : word.substr(0, 2);
  if (outside.get_option_no_throw(name) == nullptr) return usage_error(error, parser);
  return Error(ErrorCode::kUsage,
               fmt::format("{} is an option of 'ckpt apply', not of an edit", ckpt::quoted(name)))
      .with_hint("write it outside of -e");
}

/// Touches no file.
Result<EditLine> parse_line(const std::string& text) {
  CKPT_ASSIGN_OR_RETURN(auto words, shell_words(text));
  if (words.empty()) return Error(ErrorCode::kUsage, "expected a command and its options, found nothing");
  const auto* command = find_command(words.front());
  if (command == nullptr) return unknown_command(words.front());
  if (command->attach_edit == nullptr)
    return Error(ErrorCode::kUsage, fmt::format("{} is no command that edits", ckpt::quoted(words.front())));
  EditLine line{text, std::make_unique<CLI::App>("", std::string(command->name)), {}};
  set_up_parser(*line.parser);
  line.parser->set_help_flag();
  line.make_edits = command->attach_edit(*line.parser);
  std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
  words.pop_back();
  try {
    line.parser->parse(std::move(words));
  } catch (const CLI::ExtrasError& error) {
    return left_over(error, *line.parser);
  } catch (const CLI::ParseError& error) {
    return usage_error(error, *line.parser);
  }
  return line;
}

/// All lines are understood before the first reads a file.
Result<std::vector<Edit>> make_edits(const std::vector<std::string>& texts) {
  std::vector<EditLine> lines;
  for (const auto& text : texts) {
    auto line = parse_line(text);
    if (!line.ok()) return in_line(text, line.error());
    lines.push_back(std::move(line).value());
  }
  std::vector<Edit> edits;
  for (const auto& line : lines) {
    auto made = line.make_edits();
    if (!made.ok()) return in_line(line.text, made.error());
    std::move(made->begin(), made->end(), std::back_inserter(edits));
  }
  return edits;
}

Result<Plan> read_plan(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const auto text, read_whole_file(path, kLargestPlan));
  auto plan = plan_from_json(text);
  if (plan.ok()) return plan;
  auto error = std::move(plan).error().in_file(path == "-" ? "standard input" : path);
  if (error.code() != ErrorCode::kCorrupt) return error;
  return std::move(error).with_hint("the first word behind 'apply' is the plan, unless -e tells the edits");
}

/// The command line's word counts before the plan's own.
Result<Plan> make_plan(const ApplyOptions& options, const std::string& path) {
  if (!options.edits.empty()) {
    CKPT_ASSIGN_OR_RETURN(auto edits, make_edits(options.edits));
    return options.frame.plan(std::move(edits));
  }
  CKPT_ASSIGN_OR_RETURN(auto plan, read_plan(path));
  auto said = options.frame.plan({});
  if (!said.roots.empty()) plan.roots = std::move(said.roots);
  if (!options.frame.output.optimizer.empty()) plan.optimizer = said.optimizer;
  if (said.target.format) plan.target.format = said.target.format;
  if (!options.frame.output.tied.empty()) plan.target.tied = said.target.tied;
  plan.allow_unmatched = plan.allow_unmatched || said.allow_unmatched;
  return plan;
}

ExitCode run(const ApplyOptions& options, Console& console) {
  options.frame.common.apply(console);
  auto input = options.frame.input;
  std::string path;
  if (options.edits.empty()) {
    path = input.files.front();
    input.files.erase(input.files.begin());
  }
  const auto plan = make_plan(options, path);
  if (!plan.ok()) return fail(kName, plan.error(), console);
  return rewrite(kName, input, options.frame, *plan, console);
}

/// The first word is the plan, unless there are edits on the command line.
void check_words(const ApplyOptions& options) {
  const auto& files = options.frame.input.files;
  const bool has_plan = options.edits.empty();
  if (has_plan && files.empty()) throw CLI::RequiredError("PLAN, or -e 'COMMAND OPTIONS',");
  if (files.size() == (has_plan ? 1 : 0) && !options.frame.output.print_plan)
    throw CLI::RequiredError("FILE");
  if (has_plan && files.front() == "-" && std::count(files.begin(), files.end(), "-") > 1)
    throw CLI::ValidationError("standard input is named twice");
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<ApplyOptions>();
  options->frame.attach(app, [&] {
    app.add_option(
           "-e,--edit", options->edits,
           "A command that edits, with its options, in one word: instead of PLAN; repeatable, edits act "
           "in the order given")
        ->option_text("'COMMAND OPTIONS'")
        ->allow_extra_args(false);
  });
  app.callback([options = options.get()] { check_words(*options); });  // in place of the frame's
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command apply_command() {
  return {.name = kName,
          .alias = "",
          .summary = "Carry out a plan: many edits in one pass",
          .manual = manual_apply(),
          .attach = attach,
          .operands = "PLAN FILE..."};
}

}  // namespace ckpt::cli
