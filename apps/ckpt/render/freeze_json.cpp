// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/format/format.h"
#include "ckpt/model/parameter_roles.h"
#include "render/freeze.h"
#include "render/json.h"

namespace ckpt::cli {
namespace {

std::string_view start_name(FreezeStart start) {
  switch (start) {
    case FreezeStart::kAll: return "all";
    case FreezeStart::kNone: return "none";
    case FreezeStart::kRequiresGrad: return "requires-grad";
    case FreezeStart::kLast: return "last";
  }
  return "all";
}

void write_name(JsonWriter& json, std::string_view key, std::string_view hex_key, std::string_view name) {
  json.key(key).string(name);
  write_hex_if_needed(json, hex_key, name);
}

void write_list(JsonWriter& json, std::string_view key, std::string_view hex_key,
                const std::vector<std::string_view>& names) {
  write_names(json, key, hex_key, std::vector<std::string>(names.begin(), names.end()));
}

void write_amount(JsonWriter& json, std::string_view key, const FreezeAmount& amount) {
  json.key(key).begin_object();
  json.key("tensors").number(amount.tensors);
  json.key("numel").number(amount.numel);
  json.key("bytes").number(amount.bytes);
  json.end_object();
}

void write_amounts(JsonWriter& json, const FreezeGroup& group) {
  write_amount(json, "parameters", group.parameters);
  write_amount(json, "trainable", group.trainable);
  write_amount(json, "buffers", group.buffers);
  const auto all = static_cast<double>(group.parameters.numel);
  const auto percent =
      group.parameters.numel == 0 ? 0.0 : 100.0 * static_cast<double>(group.trainable.numel) / all;
  json.key("trainable_percent").raw(fmt::format("{:.4f}", percent));
}

void write_float(JsonWriter& json, std::string_view key, std::optional<double> value) {
  json.key(key);
  if (value && std::isfinite(*value)) {
    json.raw(fmt::format("{}", *value));
  } else {
    json.null();
  }
}

/// Null where nothing was compared.
void write_difference(JsonWriter& json, const Differences& differences) {
  json.key("difference");
  if (differences.count == 0) {
    json.null();
    return;
  }
  json.begin_object();
  write_float(json, "largest", differences.largest);
  write_float(json, "relative_norm", differences.relative_norm());
  write_float(json, "cosine", differences.cosine());
  json.key("not_finite").number(differences.not_finite);
  json.end_object();
}

void write_groups(JsonWriter& json, const FreezeResult& result, std::size_t index) {
  const auto& report = result.reports[index];
  json.key("totals").begin_object();
  write_amounts(json, report.total);
  json.end_object();
  json.key("groups").begin_array();
  for (std::size_t i = 0; i < report.groups.size(); ++i) {
    const auto& group = report.groups[i];
    json.begin_object();
    write_name(json, "name", "name_hex", group.name);
    write_amounts(json, group);
    write_difference(json, result.comparisons.empty() ? Differences() : result.comparisons[index].groups[i]);
    json.end_object();
  }
  json.end_array();
}

void write_memory(JsonWriter& json, const FreezeResult& result, const FreezeReport& report) {
  json.key("memory").begin_object();
  json.key("optimizer").string(optimizer_kind_name(result.optimizer));
  json.key("gradient_bytes").number(report.memory.gradients);
  json.key("optimizer_bytes").number(report.memory.state);
  json.key("step_bytes").number(report.memory.steps);
  json.end_object();
}

void write_tensors(JsonWriter& json, const FreezeResult& result, std::size_t index) {
  const auto& report = result.reports[index];
  const auto& checkpoint = result.checkpoint;
  json.key("tensors").begin_array();
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    const auto& tensor = checkpoint.tensors[entry.tensor];
    json.begin_object();
    write_name(json, "name", "name_hex", tensor.name);
    json.key("kind").string_of_ours(role_name(entry.role.kind));
    json.key("kind_from").string_of_ours(evidence_name(entry.role.evidence));
    json.key("dtype").string_of_ours(dtype_info(tensor.dtype).name);
    json.key("shape").begin_array();
    for (const auto size : checkpoint.shape(tensor)) json.number(size);
    json.end_array();
    json.key("numel").number(checkpoint.numel(tensor));
    json.key("bytes").number(checkpoint.bytes(tensor));
    json.key("trains").boolean(entry.trains);
    write_name(json, "group", "group_hex", report.groups[entry.group].name);
    if (entry.first == i) {
      json.key("tied_to").null();
    } else {
      write_name(json, "tied_to", "tied_to_hex", checkpoint.tensors[report.entries[entry.first].tensor].name);
    }
    json.key("base");
    if (result.comparisons.empty()) {
      json.null();
    } else {
      json.string_of_ours(verdict_name(result.comparisons[index].verdicts[i]));
    }
    write_difference(json, result.comparisons.empty()
                               ? Differences()
                               : result.comparisons[index].differences[i].value_or(Differences()));
    json.end_object();
  }
  json.end_array();
}

void write_remarks(JsonWriter& json, const FreezeReport& report) {
  json.key("conflicts").begin_array();
  for (const auto& conflict : report.conflicts) {
    json.begin_object();
    write_name(json, "name", "name_hex", conflict.name);
    write_name(json, "other", "other_hex", conflict.other);
    json.key("trains").boolean(conflict.trains);
    json.key("reason").string_of_ours(conflict.overlap ? "overlap" : "tied");
    json.end_object();
  }
  json.end_array();
  json.key("moving_statistics").begin_array();
  for (const auto& moving : report.moving) {
    json.begin_object();
    write_name(json, "module", "module_hex", moving.module);
    write_list(json, "buffers", "buffers_hex", moving.buffers);
    json.end_object();
  }
  json.end_array();
  write_list(json, "untrainable", "untrainable_hex", report.untrainable);
  json.key("extra_states").number(report.extra_states);
}

void write_comparison(JsonWriter& json, const FreezeResult& result, std::size_t index) {
  json.key("base");
  if (result.comparisons.empty()) {
    json.null();
    return;
  }
  const auto& comparison = result.comparisons[index];
  json.begin_object();
  write_name(json, "file", "file_hex", result.base);
  json.key("root").string(comparison.root);
  std::array<std::uint64_t, 6> counts{};
  for (const auto verdict : comparison.verdicts) ++counts[static_cast<std::size_t>(verdict)];
  json.key("equal").number(counts[static_cast<std::size_t>(BaseVerdict::kEqual)]);
  json.key("changed").number(counts[static_cast<std::size_t>(BaseVerdict::kChanged)]);
  json.key("other_shape").number(counts[static_cast<std::size_t>(BaseVerdict::kOtherShape)]);
  json.key("other_dtype").number(counts[static_cast<std::size_t>(BaseVerdict::kOtherDtype)]);
  json.key("not_in_base").number(counts[static_cast<std::size_t>(BaseVerdict::kNotInBase)]);
  json.key("not_compared").number(counts[static_cast<std::size_t>(BaseVerdict::kNotCompared)]);
  write_list(json, "only_in_base", "only_in_base_hex", comparison.only_in_base);
  write_difference(json, comparison.total);
  json.end_object();
}

}  // namespace

void write_freeze(JsonWriter& json, const FreezeResult& result) {
  json.begin_object();
  write_name(json, "file", "file_hex", result.file);
  json.key("format").string(format_word(format_of(result.checkpoint.format).name()));
  json.key("bytes").number(result.bytes);
  json.key("state_dicts").begin_array();
  for (std::size_t i = 0; i < result.reports.size(); ++i) {
    const auto& report = result.reports[i];
    json.begin_object();
    json.key("root").string(report.root);
    json.key("module").boolean(result.checkpoint.state_dicts[report.state_dict].of_module);
    json.key("start").string_of_ours(start_name(report.start));
    write_groups(json, result, i);
    write_memory(json, result, report);
    write_tensors(json, result, i);
    write_remarks(json, report);
    write_comparison(json, result, i);
    json.end_object();
  }
  json.end_array();
  json.key("findings");
  write_findings(json, result.findings, result.file);
  json.end_object();
}

void write_no_freeze(JsonWriter& json, const std::string& file) {
  json.begin_object();
  write_name(json, "file", "file_hex", file);
  json.key("format").null();
  json.key("bytes").null();
  json.key("state_dicts").begin_array().end_array();
  json.key("findings").begin_array().end_array();
  json.end_object();
}

}  // namespace ckpt::cli
