// SPDX-License-Identifier: BSD-3-Clause
#include <memory>

#include <CLI/CLI.hpp>

#include "commands/all.h"
#include "manuals.h"
#include "options/common.h"
#include "rewrite_command.h"

namespace ckpt::cli {
namespace {

struct RenameOptions {
  CommonOptions common;
  InputOptions input;
  OutputFlags output;
  std::vector<std::string> maps;
  std::vector<std::string> add_prefixes;
  std::vector<std::string> strip_prefixes;
  std::vector<std::string> rule_files;
  CLI::App* app = nullptr;
};

Status append_rule_file(const std::string& path, std::vector<RenameRule>& rules) {
  CKPT_ASSIGN_OR_RETURN(const auto lines, read_lines(path, false));
  for (const auto& line : lines) {
    if (line.starts_with('#')) continue;
    auto rule = parse_rename_rule(line);
    if (!rule.ok()) return std::move(rule).error().in_file(path);
    rules.push_back(std::move(rule).value());
  }
  return {};
}

/// The rules in the order in which they were given.
Result<RenameKeys> make_rules(const RenameOptions& options) {
  RenameKeys rename;
  std::size_t map = 0;
  std::size_t add = 0;
  std::size_t strip = 0;
  std::size_t file = 0;
  for (const auto* option : options.app->parse_order()) {
    const auto name = option->get_name();
    if (name == "--map") {
      CKPT_ASSIGN_OR_RETURN(auto rule, parse_rename_rule(options.maps[map++]));
      rename.rules.push_back(std::move(rule));
    } else if (name == "--add-prefix") {
      rename.rules.push_back({RenameRule::Kind::kAddPrefix, std::nullopt, options.add_prefixes[add++]});
    } else if (name == "--strip-prefix") {
      rename.rules.push_back({RenameRule::Kind::kStripPrefix, std::nullopt, options.strip_prefixes[strip++]});
    } else if (name == "--rules") {
      CKPT_RETURN_IF_ERROR(append_rule_file(options.rule_files[file++], rename.rules));
    }
  }
  if (rename.rules.empty()) {
    return Error(ErrorCode::kUsage, "nothing to rename: give --map, --add-prefix, --strip-prefix or --rules");
  }
  return rename;
}

ExitCode run(const RenameOptions& options, Console& console) {
  options.common.apply(console);
  Plan plan;
  plan.roots = options.input.roots;
  plan.allow_unmatched = options.output.allow_unmatched;
  plan.optimizer = options.output.optimizer_policy();
  auto rename = make_rules(options);
  if (!rename.ok()) return fail("rename-keys", rename.error(), console);
  plan.edits.emplace_back(std::move(rename).value());
  return rewrite("rename-keys", options.input, options.output, plan, console);
}

Runner attach(CLI::App& app) {
  auto options = std::make_shared<RenameOptions>();
  options->app = &app;
  options->input.attach(app);
  auto repeatable = [&](const char* name, std::vector<std::string>& values, const char* help,
                        const char* operand) {
    app.add_option(name, values, help)->option_text(operand)->allow_extra_args(false);
  };
  repeatable("--map", options->maps,
             "Rename what a pattern matches; repeatable, rules act in the order given", "OLD=NEW");
  repeatable("--add-prefix", options->add_prefixes, "Put a prefix in front of every key", "PREFIX");
  repeatable("--strip-prefix", options->strip_prefixes, "Cut a prefix off the keys that have it", "PREFIX");
  repeatable("--rules", options->rule_files,
             "Rules from a file, one OLD=NEW a line; '#' starts a comment line", "FILE");
  options->output.attach(app);
  options->common.attach(app);
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

Command rename_keys_command() {
  return {"rename-keys", "rename", "Rename keys by patterns, add or cut prefixes", manual_rename_keys(),
          attach};
}

}  // namespace ckpt::cli
