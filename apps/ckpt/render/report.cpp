// SPDX-License-Identifier: BSD-3-Clause
#include "render/report.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"
#include "render/cast_report.h"
#include "render/json.h"
#include "render/lists.h"
#include "render/merge.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kShown = kShownNames;

/// PyTorch's own words for what strict loading would say.
std::string strict_names(const std::vector<std::string>& list) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, list.size()); ++i)
    out += fmt::format("{}\"{}\"", i > 0 ? ", " : "", printable(list[i]));
  if (list.size() > kShown) out += fmt::format(", … {} more", with_separators(list.size() - kShown));
  return out + ". ";
}

void print_renamed(Stream& out, const StateDictReport& dict) {
  if (dict.renamed.empty()) return;
  out.format("    {} renamed: ", counted(dict.renamed.size(), "key"));
  for (std::size_t i = 0; i < std::min<std::size_t>(2, dict.renamed.size()); ++i) {
    out.format("{}{} -> {}", i > 0 ? ", " : "", quoted(dict.renamed[i].first),
               quoted(dict.renamed[i].second));
  }
  out.print(dict.renamed.size() > 2 ? fmt::format(" and {} more\n", with_separators(dict.renamed.size() - 2))
                                    : "\n");
}

void print_head(Stream& out, const HeadReport& head) {
  out.format("    head {}: {} -> {}", quoted(head.name), torch_size(head.old_shape),
             torch_size(head.new_shape));
  if (head.new_name != head.name) out.format(", now {}", quoted(head.new_name));
  out.format(", seed {}", static_cast<std::int64_t>(head.seed));
  if (head.kept_rows > 0) out.format(", {} kept", counted(head.kept_rows, "row"));
  out.print("\n");
}

void print_state_dict(Stream& out, const StateDictReport& dict, const std::string& file) {
  for (const auto& [source, count] : dict.taken) {
    out.format("  {} of {} of {} now come from {}\n", with_separators(count),
               counted(dict.tensors_after, "tensor"), quoted(file), quoted(source));
  }
  out.format("  {}: {} of {} kept, {}\n",
             dict.root.empty() ? "state dict" : "state dict " + quoted(dict.root),
             with_separators(dict.keys_after - dict.added.size()), counted(dict.keys_before, "key"),
             human_bytes(dict.bytes_after));
  for (const auto& head : dict.heads) print_head(out, head);
  print_renamed(out, dict);
  if (!dict.added.empty())
    out.format("    {} added: {}\n", counted(dict.added.size(), "key"), listed(dict.added));
  if (!dict.dropped.empty())
    out.format("    {} dropped: {}\n", counted(dict.dropped.size(), "key"), listed(dict.dropped));
  if (!dict.missing.empty()) out.format("    Missing key(s) in state_dict: {}\n", strict_names(dict.missing));
  if (!dict.unexpected.empty())
    out.format("    Unexpected key(s) in state_dict: {}\n", strict_names(dict.unexpected));
  for (std::size_t i = 0; i < std::min(kShown, dict.mismatched.size()); ++i) {
    const auto& mismatch = dict.mismatched[i];
    out.format(
        "    size mismatch for {}: copying a param with shape {} from checkpoint, the shape in current model "
        "is {}.\n",
        printable(mismatch.name), torch_size(mismatch.in_file), torch_size(mismatch.in_reference));
  }
  if (dict.mismatched.size() > kShown)
    out.format("    size mismatch for {} more\n", dict.mismatched.size() - kShown);
}

void print_optimizer(Stream& out, const OptimizerReport& optimizer) {
  out.format("  optimizer {}: ", quoted_path(optimizer.path));
  if (optimizer.evidence == OrderEvidence::kNothing) {
    out.format("{} renamed\n", counted(optimizer.renamed, "name"));
    return;
  }
  out.format("{} of {} kept, ", with_separators(optimizer.parameters_after),
             counted(optimizer.parameters_before, "parameter"));
  switch (optimizer.evidence) {
    case OrderEvidence::kNames: out.print("told by their names\n"); break;
    case OrderEvidence::kShapes: out.print("told by their shapes\n"); break;
    default: out.print("taken to be in the order of the keys\n");
  }
  if (!optimizer.dropped.empty())
    out.format("    {} dropped: {}\n", counted(optimizer.dropped.size(), "parameter"),
               listed(optimizer.dropped));
  if (!optimizer.reset.empty())
    out.format("    state of {} reset: {}\n", counted(optimizer.reset.size(), "parameter"),
               listed(optimizer.reset));
  if (optimizer.renamed > 0) out.format("    {} renamed\n", counted(optimizer.renamed, "name"));
}

void print_refused(Stream& out, const std::vector<RefusedValue>& values) {
  std::vector<std::string> gone;
  std::vector<std::string> plain;
  for (const auto& value : values) {
    const auto& what = value.became.empty() ? value.global : value.became;
    (value.became.empty() ? gone : plain).push_back(fmt::format("{} ({})", quoted_path(value.path), what));
  }
  for (const auto* list : {&plain, &gone}) {
    if (list->empty()) continue;
    const bool is_gone = list == &gone;
    out.format("  {} {}:\n", counted(list->size(), "value"),
               is_gone ? "dropped, which weights_only=True refuses" : "made plain");
    for (std::size_t i = 0; i < list->size() && (is_gone || i < kShown); ++i)
      out.format("    {}\n", (*list)[i]);
    if (!is_gone && list->size() > kShown)
      out.format("    and {} more\n", with_separators(list->size() - kShown));
  }
}

void print_conversion(Stream& out, const ConversionReport& report) {
  print_refused(out, report.refused);
  if (report.respelled) out.print("  spelled in pickle protocol 2, all that weights_only=True reads\n");
  if (report.devices_changed > 0)
    out.format("  {} tagged 'cpu'\n", counted(report.devices_changed, "storage"));
  if (report.cast) print_casts(out, *report.cast);
  if (report.compacted) {
    const auto& compacted = *report.compacted;
    out.format("  compacted: {} {}, {} of storages -> {}\n", counted(compacted.tensors, "tensor"),
               compacted.tensors == 1 ? "got a storage of its own" : "got storages of their own",
               human_bytes(compacted.bytes_before), human_bytes(compacted.bytes_after));
  }
  if (report.deduped.empty()) return;
  std::uint64_t saved = 0;
  for (const auto& group : report.deduped) saved += group.bytes * (group.tensors.size() - 1);
  out.format("  deduplicated: {} of equal storages, {} saved\n", counted(report.deduped.size(), "group"),
             human_bytes(saved));
  for (std::size_t i = 0; i < std::min(kShown, report.deduped.size()); ++i)
    out.format("    one storage of {}: {}\n", human_bytes(report.deduped[i].bytes),
               listed(report.deduped[i].tensors));
  if (report.deduped.size() > kShown)
    out.format("    and {} more\n", counted(report.deduped.size() - kShown, "group"));
}

const char* outcome(const FileResult& result) {
  if (result.report.strict_failed) return "nothing written: the file does not fit the reference (--strict)";
  if (result.status == ExitCode::kAnswerIsNo) return "nothing written: nothing would change (--must-change)";
  if (result.left_alone) return "left alone: nothing to change";
  if (result.dry_run) return "dry run: nothing written";
  return "";
}

void write_strings(JsonWriter& json, std::string_view key, const std::vector<std::string>& list) {
  json.key(key).begin_array();
  for (const auto& text : list) json.string(text);
  json.end_array();
}

void write_shape(JsonWriter& json, std::string_view key, const std::vector<std::int64_t>& shape) {
  json.key(key).begin_array();
  for (const auto size : shape) json.number(size);
  json.end_array();
}

void write_conversion(JsonWriter& json, const ConversionReport& report) {
  json.begin_object();
  json.key("refused").begin_array();
  for (const auto& value : report.refused) {
    json.begin_object();
    json.key("path").string(value.path);
    write_hex_if_needed(json, "path_hex", value.path);
    json.key("global").string(value.global);
    json.key("became").string_or_null(value.became);
    json.end_object();
  }
  json.end_array();
  json.key("respelled").boolean(report.respelled);
  json.key("devices_changed").number(report.devices_changed);
  json.key("cast");
  if (report.cast) {
    write_casts(json, *report.cast);
  } else {
    json.null();
  }
  json.key("compacted");
  if (report.compacted) {
    json.begin_object();
    json.key("tensors").number(report.compacted->tensors);
    json.key("bytes_before").number(report.compacted->bytes_before);
    json.key("bytes_after").number(report.compacted->bytes_after);
    json.end_object();
  } else {
    json.null();
  }
  json.key("deduped").begin_array();
  for (const auto& group : report.deduped) {
    json.begin_object();
    json.key("bytes").number(group.bytes);
    write_names(json, "tensors", "tensors_hex", group.tensors);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

void write_state_dict(JsonWriter& json, const StateDictReport& dict) {
  json.begin_object();
  json.key("root").string(dict.root);
  json.key("keys_before").number(dict.keys_before);
  json.key("keys_after").number(dict.keys_after);
  json.key("bytes_before").number(dict.bytes_before);
  json.key("bytes_after").number(dict.bytes_after);
  json.key("renamed").begin_array();
  for (const auto& [from, to] : dict.renamed) {
    json.begin_object();
    json.key("from").string(from);
    write_hex_if_needed(json, "from_hex", from);
    json.key("to").string(to);
    write_hex_if_needed(json, "to_hex", to);
    json.end_object();
  }
  json.end_array();
  write_names(json, "dropped", "dropped_hex", dict.dropped);
  json.key("heads").begin_array();
  for (const auto& head : dict.heads) {
    json.begin_object();
    json.key("name").string(head.name);
    write_hex_if_needed(json, "name_hex", head.name);
    json.key("new_name").string(head.new_name);
    write_hex_if_needed(json, "new_name_hex", head.new_name);
    write_shape(json, "old_shape", head.old_shape);
    write_shape(json, "new_shape", head.new_shape);
    json.key("kept_rows").number(head.kept_rows);
    json.key("seed").number(static_cast<std::int64_t>(head.seed));
    json.end_object();
  }
  json.end_array();
  write_names(json, "added", "added_hex", dict.added);
  json.key("taken").begin_array();
  for (const auto& [file, tensors] : dict.taken) {
    json.begin_object();
    json.key("file").string(file);
    write_hex_if_needed(json, "file_hex", file);
    json.key("tensors").number(tensors);
    json.end_object();
  }
  json.end_array();
  write_names(json, "missing", "missing_hex", dict.missing);
  write_names(json, "unexpected", "unexpected_hex", dict.unexpected);
  json.key("mismatched").begin_array();
  for (const auto& mismatch : dict.mismatched) {
    json.begin_object();
    json.key("name").string(mismatch.name);
    write_hex_if_needed(json, "name_hex", mismatch.name);
    write_shape(json, "shape", mismatch.in_file);
    write_shape(json, "reference_shape", mismatch.in_reference);
    json.end_object();
  }
  json.end_array();
  json.end_object();
}

void write_optimizer(JsonWriter& json, const OptimizerReport& optimizer) {
  const bool is_known = optimizer.evidence != OrderEvidence::kNothing;
  json.begin_object();
  json.key("path").string(optimizer.path);
  json.key("root").string(optimizer.root);
  json.key("told_by").string_or_null(is_known ? order_evidence_name(optimizer.evidence) : "");
  json.key("parameters_before").number(optimizer.parameters_before);
  json.key("parameters_after").number(optimizer.parameters_after);
  write_names(json, "dropped", "dropped_hex", optimizer.dropped);
  write_names(json, "reset", "reset_hex", optimizer.reset);
  json.key("renamed_names").number(optimizer.renamed);
  json.end_object();
}

}  // namespace

void print_result(Stream& out, const FileResult& result) {
  out.format("{} -> {}\n", printable(result.file),
             result.output.empty() ? "(no output)" : printable(result.output));
  if (result.output_format != result.format)
    out.format("  converted: {} -> {}\n", result.format, result.output_format);
  if (!result.report.removed_wrappers.empty()) {
    out.format("  stripped: {}\n", fmt::join(result.report.removed_wrappers, ", "));
  }
  if (const auto& path = result.report.new_root)
    out.format("  root: the state dict {}\n", path->empty() ? "of the module" : "at " + quoted(*path));
  for (const auto& merge : result.report.merges) print_merge(out, merge, result.file, result.verbose);
  for (const auto& dict : result.report.state_dicts) print_state_dict(out, dict, result.file);
  print_overflows(out, result.report.merge_casts);
  for (const auto& optimizer : result.report.optimizers) print_optimizer(out, optimizer);
  if (!result.report.dropped_entries.empty())
    out.format("  dropped: {}\n", listed(result.report.dropped_entries));
  if (result.report.conversion) print_conversion(out, *result.report.conversion);
  for (const auto& note : result.report.notes) out.format("  note: {}\n", note);
  out.format("  {} in, {} out, {} of them moved as they are\n", human_bytes(result.bytes_in),
             human_bytes(result.bytes_out), human_bytes(result.bytes_copied));
  if (const std::string_view text = outcome(result); !text.empty()) out.format("  {}\n", text);
  if (const auto& device = result.device; !device.label.empty())
    out.format("  device: {} ({}), copied {}, computed {}\n", device.label, printable(device.name),
               human_bytes(device.copied), human_bytes(device.computed));
}

namespace {

void write_device(JsonWriter& json, const DeviceWork& device) {
  if (device.label.empty()) {
    json.null();
    return;
  }
  json.begin_object();
  json.key("device").string(device.label);
  json.key("name").string(device.name);
  json.key("copied").number(device.copied);
  json.key("computed").number(device.computed);
  json.end_object();
}

}  // namespace

void write_result(JsonWriter& json, const FileResult& result) {
  json.begin_object();
  json.key("file").string(result.file);
  write_hex_if_needed(json, "file_hex", result.file);
  json.key("output").string_or_null(result.output);
  write_hex_if_needed(json, "output_hex", result.output);
  json.key("format").string_or_null(format_word(result.format));
  json.key("output_format").string_or_null(format_word(result.output_format));
  json.key("bytes_in").number(result.bytes_in);
  json.key("bytes_out").number(result.bytes_out);
  json.key("bytes_moved").number(result.bytes_copied);
  json.key("device");
  write_device(json, result.device);
  json.key("changed").boolean(result.changed);
  json.key("written").boolean(result.status == ExitCode::kDone && !result.dry_run && !result.left_alone);
  json.key("dry_run").boolean(result.dry_run);
  json.key("status").number(static_cast<int>(result.status));
  write_strings(json, "removed_wrappers", result.report.removed_wrappers);
  json.key("state_dicts").begin_array();
  for (const auto& dict : result.report.state_dicts) write_state_dict(json, dict);
  json.end_array();
  json.key("optimizers").begin_array();
  for (const auto& optimizer : result.report.optimizers) write_optimizer(json, optimizer);
  json.end_array();
  write_names(json, "dropped_entries", "dropped_entries_hex", result.report.dropped_entries);
  json.key("new_root");
  if (result.report.new_root) {
    json.string(*result.report.new_root);
  } else {
    json.null();
  }
  json.key("conversion");
  if (result.report.conversion) {
    write_conversion(json, *result.report.conversion);
  } else {
    json.null();
  }
  json.key("merges").begin_array();
  for (const auto& merge : result.report.merges) write_merge(json, merge);
  json.end_array();
  json.key("merge_casts");
  write_cast_values(json, result.report.merge_casts);
  write_strings(json, "notes", result.report.notes);
  json.key("findings");
  write_findings(json, result.findings, result.file);
  json.end_object();
}

}  // namespace ckpt::cli
