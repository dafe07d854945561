// SPDX-License-Identifier: BSD-3-Clause
#include <charconv>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "commands/all.h"
#include "edit_command.h"
#include "manuals.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

struct HeadOptions {
  std::vector<std::string> heads;
  std::optional<std::uint64_t> num_classes;
  std::string init = "default";
  std::string seed = "0";
  std::string torch;
  bool keep_rows = false;
  std::string map;
  std::uint64_t label_offset = 0;
  std::string background;
  std::optional<std::string> rename;
  bool no_bias = false;
  std::optional<std::uint64_t> in_features;
};

std::optional<std::int64_t> parse_row(std::string_view word) {
  std::int64_t row = 0;
  const auto [stop, ec] = std::from_chars(word.data(), word.data() + word.size(), row);
  if (ec != std::errc() || stop != word.data() + word.size() || row < 0) return std::nullopt;
  return row;
}

/// Lines "NEW OLD"; empty ones and those that begin with '#' say nothing.
Result<std::vector<ReplaceHead::KeptRow>> read_map(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const auto lines, read_lines(path, false));
  std::vector<ReplaceHead::KeptRow> rows;
  for (const auto& line : lines) {
    if (line.starts_with('#')) continue;
    const auto space = line.find_first_of(" \t");
    const auto old = space == line.npos ? line.npos : line.find_first_not_of(" \t", space);
    const auto to = parse_row(std::string_view(line).substr(0, space));
    const auto from = old == line.npos ? std::nullopt : parse_row(std::string_view(line).substr(old));
    if (!to || !from) {
      return Error(ErrorCode::kUsage,
                   fmt::format("expected lines 'NEW OLD', two row numbers, found {}", ckpt::quoted(line)))
          .in_file(path);
    }
    rows.push_back({*to, *from});
  }
  return rows;
}

Result<std::int64_t> positive(std::uint64_t number, std::string_view option) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 40U;
  if (number >= 1 && number <= kMost) return static_cast<std::int64_t>(number);
  return Error(ErrorCode::kUsage, fmt::format("{} must be from 1 to {}, found {}", option, kMost, number));
}

Result<std::vector<Edit>> make_edits(const HeadOptions& options) {
  ReplaceHead head;
  head.heads = options.heads;
  if (options.num_classes) {
    CKPT_ASSIGN_OR_RETURN(head.num_classes, positive(*options.num_classes, "--num-classes"));
  }
  if (options.in_features) {
    CKPT_ASSIGN_OR_RETURN(head.in_features, positive(*options.in_features, "--in-features"));
  }
  if (options.label_offset > 0) {
    CKPT_ASSIGN_OR_RETURN(head.label_offset, positive(options.label_offset, "--label-offset"));
  }
  if (!options.num_classes && options.label_offset == 0 && options.map.empty() && !options.rename)
    return Error(ErrorCode::kUsage,
                 "how many classes? give --num-classes, --map, --label-offset or --rename");
  CKPT_ASSIGN_OR_RETURN(head.init, parse_init_method(options.init));
  head.seed = parse_seed(options.seed).value_or(0);
  if (!options.torch.empty()) {
    CKPT_ASSIGN_OR_RETURN(head.torch, parse_torch_version(options.torch));
  }
  head.keep_rows = options.keep_rows;
  if (!options.map.empty()) {
    CKPT_ASSIGN_OR_RETURN(head.rows, read_map(options.map));
    if (options.keep_rows || options.label_offset > 0)
      return Error(ErrorCode::kUsage,
                   "--map names the rows that stay: --keep-rows and --label-offset exclude it");
  }
  if (options.background == "first") head.background = ReplaceHead::Background::kFirst;
  if (options.background == "last") head.background = ReplaceHead::Background::kLast;
  head.rename = options.rename;
  if (head.rename && head.heads.size() > 1) return Error(ErrorCode::kUsage, "--rename goes with one --head");
  head.no_bias = options.no_bias;
  return std::vector<Edit>{std::move(head)};
}

EditMaker attach_edit(CLI::App& app) {
  auto options = std::make_shared<HeadOptions>();
  app.add_option(
         "--head", options->heads,
         "Name of the layer, 'fc' or 'classifier.6'; repeatable. Default: the last layer, if it is the only "
         "one of its size")
      ->option_text("NAME")
      ->allow_extra_args(false);
  app.add_option("--num-classes", options->num_classes, "Rows of the new head")
      ->check(check_number)
      ->option_text("N");
  app.add_option(
         "--init", options->init,
         "How new rows are initialised: default (as the layer's constructor does), zeros, normal[:STD], "
         "trunc-normal[:STD], xavier-uniform[:GAIN], xavier-normal[:GAIN], kaiming-uniform[:fan-in|fan-out] "
         "or kaiming-normal[:fan-in|fan-out]; the bias is zero for all but default")
      ->option_text("METHOD");
  app.add_option("--seed", options->seed, "Seed, as torch.manual_seed takes it; 0 if not given")
      ->check(check_seed)
      ->option_text("N");
  app.add_option("--torch", options->torch,
                 "Whose random values, where releases of PyTorch differ; the newest known if not given")
      ->option_text("VERSION");
  app.add_flag("--keep-rows", options->keep_rows, "Keep the rows that old and new head both have");
  app.add_option("--map", options->map,
                 "File of lines 'NEW OLD': row NEW of the new head is row OLD of the old one")
      ->option_text("FILE");
  app.add_option("--label-offset", options->label_offset, "Drop the first N rows and keep those behind them")
      ->check(check_number)
      ->option_text("N");
  app.add_option("--background", options->background,
                 "The first or last row is no class: it stays the first or last one")
      ->check(one_of({"first", "last"}))
      ->option_text("WHICH");
  app.add_option("--rename", options->rename, "New name of the layer")->option_text("NEW");
  app.add_flag("--no-bias", options->no_bias, "The new head has no bias, whatever the old one had");
  app.add_option("--in-features", options->in_features,
                 "Columns of the new head: the second size of its weight")
      ->check(check_number)
      ->option_text("N");
  return [options] { return make_edits(*options); };
}

}  // namespace

Command replace_head_command() {
  return editing_command("replace-head", "head", "Give a model a last layer for another number of classes",
                         manual_replace_head(), attach_edit);
}

}  // namespace ckpt::cli
