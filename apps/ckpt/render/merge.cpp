// SPDX-License-Identifier: BSD-3-Clause
#include "render/merge.h"

#include <cmath>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "render/json.h"
#include "render/lists.h"

namespace ckpt::cli {
namespace {

/// A parameter as it is set for the keys that no pattern is about; none: the files tell.
std::optional<std::string> value_of(const MergeRecipe& recipe, const MergeSetting& parameter) {
  std::optional<std::string> value;
  if (parameter.preset && !std::isnan(*parameter.preset))
    value = setting_value_text({parameter.parameter, std::nullopt, {{{*parameter.preset}}}});
  for (const auto& setting : recipe.settings) {
    if (setting.parameter == parameter.parameter && !setting.keys) value = setting_value_text(setting);
  }
  return value;
}

std::string_view name_of(MergeParameter parameter) {
  return merge_parameter_info(parameter).name;
}

/// "'a.pt', 'b.pt' and 'c.pt'".
std::string files_text(const std::vector<std::string>& files) {
  std::string text;
  for (std::size_t i = 0; i < files.size(); ++i)
    text += (i == 0 ? "" : i + 1 == files.size() ? " and " : ", ") + quoted(files[i]);
  return text;
}

void print_settings(Stream& out, const MergeRecipe& recipe) {
  std::vector<std::string> settings;
  for (const auto& parameter : merge_method_info(recipe.method).settings) {
    if (const auto value = value_of(recipe, parameter))
      settings.push_back(fmt::format("{} {}", name_of(parameter.parameter), *value));
  }
  if (draws_masks(recipe.method)) settings.push_back(fmt::format("seed {}", recipe.seed));
  if (recipe.accumulate == Accumulate::kFloat32) settings.emplace_back("sums in float32");
  if (!settings.empty()) out.format("    {}\n", fmt::join(settings, ", "));
  for (const auto& setting : recipe.settings) {
    if (!setting.keys) continue;
    out.format("    {}: {} {}\n", quoted(setting.keys->text()), name_of(setting.parameter),
               setting_value_text(setting));
  }
}

void print_cosines(Stream& out, const MergeReport& report, const std::string& base) {
  std::vector<std::string> cosines;
  for (std::size_t i = 0; i < report.sources.size(); ++i) {
    if (const auto cosine = total_cosine(report, i + 1))
      cosines.push_back(fmt::format("{} {:.4f}", quoted(report.sources[i]), *cosine));
  }
  if (!cosines.empty()) out.format("    cosine with {}: {}\n", quoted(base), fmt::join(cosines, ", "));
}

void print_not_finite(Stream& out, const MergeReport& report) {
  std::uint64_t all = 0;
  std::vector<std::string> tensors;
  for (const auto& tensor : report.tensors) {
    const auto found = not_finite(report, tensor).value_or(0);
    if (found == 0) continue;
    all += found;
    tensors.push_back(tensor.name);
  }
  if (all == 0) return;
  out.format("    {} of the result {} NaN or infinite: in {}\n", counted(all, "value"),
             all == 1 ? "is" : "are", listed(tensors));
}

void print_tensor(Stream& out, const MergeReport& report, const MergedTensor& tensor,
                  const std::string& base) {
  const auto measures = measures_of(report, tensor);
  if (measures.empty()) return;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < measures.size(); ++i) {
    const auto file = tensor.files[i];
    auto text =
        fmt::format("{} norm {:.6g}", quoted(file == 0 ? base : report.sources[file - 1]), measures[i].norm);
    if (i > 0 && std::isfinite(measures[i].cosine)) text += fmt::format(" cosine {:.6f}", measures[i].cosine);
    texts.push_back(std::move(text));
  }
  out.format("      {}: {}\n", quoted(tensor.name), fmt::join(texts, ", "));
}

/// Numbers that JSON does not have are null.
void write_real(JsonWriter& json, double value) {
  if (std::isfinite(value)) {
    json.raw(fmt::format("{}", value));
  } else {
    json.null();
  }
}

void write_setting(JsonWriter& json, MergeParameter parameter, const std::string& value,
                   std::string_view keys) {
  json.begin_object();
  json.key("name").string(name_of(parameter));
  json.key("keys").string_or_null(keys);
  write_hex_if_needed(json, "keys_hex", keys);
  json.key("value").string(value);
  json.end_object();
}

void write_parameters(JsonWriter& json, const MergeRecipe& recipe) {
  json.key("parameters").begin_array();
  for (const auto& parameter : merge_method_info(recipe.method).settings) {
    if (const auto value = value_of(recipe, parameter)) write_setting(json, parameter.parameter, *value, {});
  }
  for (const auto& setting : recipe.settings) {
    if (setting.keys)
      write_setting(json, setting.parameter, setting_value_text(setting), setting.keys->text());
  }
  json.end_array();
}

void write_tensor(JsonWriter& json, const MergeReport& report, const MergedTensor& tensor) {
  const auto measures = measures_of(report, tensor);
  json.begin_object();
  json.key("root").string(tensor.root);
  json.key("name").string(tensor.name);
  write_hex_if_needed(json, "name_hex", tensor.name);
  json.key("files").begin_array();
  for (const auto file : tensor.files) json.number(static_cast<std::uint64_t>(file));
  json.end_array();
  json.key("norms").begin_array();
  for (const auto& measure : measures) write_real(json, measure.norm);
  json.end_array();
  json.key("cosines").begin_array();
  for (const auto& measure : measures) write_real(json, measure.cosine);
  json.end_array();
  json.key("not_finite");
  if (const auto found = not_finite(report, tensor)) {
    json.number(*found);
  } else {
    json.null();
  }
  json.end_object();
}

}  // namespace

void print_merge(Stream& out, const MergeReport& report, const std::string& base, bool with_tensors) {
  const auto& method = merge_method_info(report.recipe.method);
  auto files = report.sources;
  if (!report.recipe.has_base()) files.insert(files.begin(), base);
  out.format("  {} of {}{}\n", method.name, files_text(files),
             report.recipe.has_base() ? " around " + quoted(base) : "");
  print_settings(out, report.recipe);
  out.format("    {} computed", counted(report.computed, "tensor"));
  if (report.integers > 0) out.format(", {} of integers by rule", with_separators(report.integers));
  if (report.recipe.integers) out.format(" ({})", integer_rule_name(*report.recipe.integers));
  out.print("\n");
  if (!report.kept.empty())
    out.format("    {} as {}, for not every file has {}: {}\n", counted(report.kept.size(), "tensor"),
               report.kept.size() == 1 ? "it is" : "they are", report.kept.size() == 1 ? "it" : "them",
               listed(report.kept));
  if (!report.fewer.empty())
    out.format("    {} of fewer files, as others lack {}: {}\n", counted(report.fewer.size(), "tensor"),
               report.fewer.size() == 1 ? "it" : "them", listed(report.fewer));
  print_cosines(out, report, base);
  print_not_finite(out, report);
  if (!with_tensors) return;
  for (const auto& tensor : report.tensors) print_tensor(out, report, tensor, base);
}

void write_merge(JsonWriter& json, const MergeReport& report) {
  const auto& recipe = report.recipe;
  json.begin_object();
  json.key("method").string(merge_method_info(recipe.method).name);
  json.key("around_base").boolean(recipe.has_base());
  write_names(json, "sources", "sources_hex", report.sources);
  write_parameters(json, recipe);
  json.key("seed");
  if (draws_masks(recipe.method)) {
    json.number(recipe.seed);
  } else {
    json.null();
  }
  json.key("accumulate").string(recipe.accumulate == Accumulate::kFloat32 ? "float32" : "float64");
  json.key("integers").string(integer_rule_name(recipe.integers.value_or(IntegerRule::kEqual)));
  json.key("computed").number(report.computed);
  json.key("by_rule").number(report.integers);
  write_names(json, "kept", "kept_hex", report.kept);
  write_names(json, "fewer", "fewer_hex", report.fewer);
  json.key("cosines").begin_array();
  for (std::size_t i = 0; i < report.sources.size(); ++i)
    write_real(json, total_cosine(report, i + 1).value_or(NAN));
  json.end_array();
  json.key("tensors").begin_array();
  for (const auto& tensor : report.tensors) write_tensor(json, report, tensor);
  json.end_array();
  json.end_object();
}

}  // namespace ckpt::cli
