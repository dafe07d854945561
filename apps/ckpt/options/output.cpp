// SPDX-License-Identifier: BSD-3-Clause
#include "options/output.h"

#include <sys/stat.h>

#include <set>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

std::string base_name(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

bool directory_exists(const std::string& path) {
  struct stat status {};

  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

void OutputFlags::attach(CLI::App& app) {
  app.add_option(
         "-o,--output", output,
         "File to write, or '-' for standard output; DIR/, made where it is missing, for a file per input")
      ->option_text("FILE");
  app.add_flag("-i,--in-place", in_place, "Replace each input by its result");
  app.add_flag("-f,--force", force, "Replace an existing output");
  app.add_flag("-n,--dry-run", dry_run, "Report what would be done and write nothing");
  app.add_flag("--print-plan", print_plan,
               "Print the edits as JSON for 'ckpt apply' on standard output; read no FILE and write none");
  app.add_flag("--must-change", must_change, "Exit with 1 and write nothing when nothing would change");
  app.add_flag("--verify", verify, "Read the output back and compare it before it is published");
  app.add_flag("--no-fsync", no_fsync, "Don't wait until the output is on disk");
  app.add_option("--optimizer", optimizer,
                 "What becomes of optimizer state: remap (it follows the keys, the default), "
                 "remap=model-order, keep or drop")
      ->check(one_of({"keep", "drop", "remap", "remap=model-order"}))
      ->option_text("CHOICE");
  app.add_option(
         "--to", to,
         "Container of the output: torch, torch-legacy or safetensors; that of the input if not given")
      ->check(one_of({"torch", "torch-legacy", "safetensors"}))
      ->option_text("FORMAT");
  app.add_option("--tied", tied,
                 "Tensors that share bytes, in safetensors: alias (one is written, the default), copy or "
                 "error")
      ->check(one_of({"alias", "copy", "error"}))
      ->option_text("CHOICE");
  app.add_flag("--allow-unmatched", allow_unmatched, "Accept patterns and paths that match nothing");
}

OptimizerPolicy OutputFlags::optimizer_policy() const {
  const auto policy = parse_optimizer_policy(optimizer);
  return policy.ok() ? *policy : Plan().optimizer;
}

Target OutputFlags::target() const {
  Target target;
  if (const auto format = parse_target_format(to); format.ok()) target.format = *format;
  if (tied == "copy") target.tied = TiedTensors::kCopy;
  if (tied == "error") target.tied = TiedTensors::kError;
  return target;
}

bool OutputFlags::is_directory() const {
  return output.ends_with('/') || directory_exists(output);
}

std::string OutputFlags::path_for(const std::string& input) const {
  if (in_place) return input;
  if (output.empty() || output == "-" || !is_directory()) return output;
  return (output.ends_with('/') ? output : output + '/') + base_name(input);
}

Status OutputFlags::check(const std::vector<std::string>& inputs) const {
  auto usage = [](std::string message) { return Error(ErrorCode::kUsage, std::move(message)); };
  if (in_place && !output.empty()) return usage("--output and --in-place exclude each other");
  if (!in_place && output.empty() && !dry_run) return usage("no output: give --output FILE or --in-place");
  if (verify && output == "-")
    return usage("--verify needs an output that can be read back, not standard output");
  std::set<std::string> names;
  for (const auto& input : inputs) {
    if (input == "-" && in_place) return usage("standard input can't be edited in place");
    if (input == "-" && is_directory()) return usage("standard input has no name for a file in a directory");
    if (input == "-" && !names.insert(input).second) return usage("standard input is named twice");
  }
  if (inputs.size() < 2 || in_place || output.empty()) return {};
  if (!is_directory()) {
    return usage(
        fmt::format("{} inputs but one output: give a directory (-o DIR/) or --in-place", inputs.size()));
  }
  names.clear();
  for (const auto& input : inputs) {
    if (!names.insert(base_name(input)).second)
      return usage(fmt::format("two inputs are called {}", ckpt::quoted(base_name(input))));
  }
  return {};
}

}  // namespace ckpt::cli
