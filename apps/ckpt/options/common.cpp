// SPDX-License-Identifier: BSD-3-Clause
#include "options/common.h"

#include <CLI/CLI.hpp>

#include "logging.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

When parse_when(const std::string& text) {
  return text == "always" ? When::kAlways : text == "never" ? When::kNever : When::kAuto;
}

}  // namespace

void CommonOptions::attach(CLI::App& app) {
  app.add_flag("-q,--quiet", quiet, "Print no report and no notes; errors are always printed");
  app.add_flag("-v,--verbose", verbose, "Say on standard error what is done");
  app.add_flag("--json", json, "Print one JSON document on standard output");
  const auto when = one_of({"auto", "always", "never"});
  app.add_option("--color", color, "Use colours: auto, always or never")->check(when)->option_text("WHEN");
  app.add_option("--progress", progress, "Show progress: auto, always or never")
      ->check(when)
      ->option_text("WHEN");
}

void CommonOptions::apply(Console& console) const {
  console.quiet = quiet;
  console.json = json;
  console.color = parse_when(color);
  console.progress = parse_when(progress);
  if (verbose) start_logging();
}

}  // namespace ckpt::cli
