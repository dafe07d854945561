// SPDX-License-Identifier: BSD-3-Clause
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "render/freeze.h"
#include "render/json.h"

namespace ckpt::cli {
namespace {

/// A string literal for Python. Bytes that are no UTF-8 are what pickle makes of them: lone surrogates are
/// spelled as such, others as the character of that number.
std::string python_literal(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const auto length = utf8_sequence(text);
    if (length > 1) {
      out += text.substr(0, length);
      text.remove_prefix(length);
      continue;
    }
    const bool surrogate = length == 0 && byte == 0xED && text.size() >= 3;
    if (surrogate) {
      const auto second = static_cast<unsigned char>(text[1]);
      const auto third = static_cast<unsigned char>(text[2]);
      out += fmt::format("\\u{:04x}", 0xD000U | (second & 0x3FU) << 6U | (third & 0x3FU));
      text.remove_prefix(3);
      continue;
    }
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += text.front();
    } else if (byte < 0x20 || byte >= 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += text.front();
    }
    text.remove_prefix(1);
  }
  return out + '"';
}

bool is_parameter(const FreezeEntry& entry) {
  return entry.role.kind == RoleKind::kParameter;
}

const char* constructor(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::kSgd: return "torch.optim.SGD(parameters, lr=1e-3)";
    case OptimizerKind::kMomentum: return "torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)";
    case OptimizerKind::kAdam: return "torch.optim.Adam(parameters, lr=1e-3)";
    case OptimizerKind::kAdamW: return "torch.optim.AdamW(parameters, lr=1e-3)";
  }
  return "";
}

void emit_table(const FreezeResult& result, const FreezeReport& report, Stream& out) {
  std::vector<std::string_view> tied;
  out.print("requires_grad = {\n");
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    if (!is_parameter(entry)) continue;
    const auto name = result.checkpoint.tensors[entry.tensor].name;
    out.format("    {}: {},\n", python_literal(name), entry.trains ? "True" : "False");
    if (entry.first != i) tied.push_back(name);
  }
  out.print("}\n");
  if (tied.empty()) {
    out.print("tied = set()\n");
    return;
  }
  out.print("tied = {  # second names of a parameter: the model lists the first\n");
  for (const auto name : tied) out.format("    {},\n", python_literal(name));
  out.print("}\n");
}

void emit_statistics(const FreezeReport& report, Stream& out) {
  if (report.moving.empty()) return;
  out.print(
      "# Nothing of these layers trains, but their statistics move in training mode. To keep them, after "
      "each "
      "model.train():\n#     for name in statistics: model.get_submodule(name).eval()\nstatistics = [\n");
  for (const auto& moving : report.moving) out.format("    {},\n", python_literal(moving.module));
  out.print("]\n");
}

}  // namespace

void emit_python(const FreezeResult& result, const FreezeReport& report, Stream& out) {
  out.format(
      "# {}: {} of {} train. Takes `model`, sets requires_grad of every parameter and makes `optimizer`.\n"
      "# ckpt freeze-report --emit python\nimport torch\n\n",
      printable(result.file), with_separators(report.total.trainable.tensors),
      counted(report.total.parameters.tensors, "parameter"));
  emit_table(result, report, out);
  out.print(
      "names = {name for name, _ in model.named_parameters()}\n"
      "strange = sorted((names - requires_grad.keys()) | (requires_grad.keys() - names - tied))\n"
      "if strange:\n"
      "    raise KeyError(f\"model and checkpoint do not have the same parameters: {strange[:5]}\")\n"
      "for name, parameter in model.named_parameters():\n"
      "    parameter.requires_grad_(requires_grad[name])\n");
  emit_statistics(report, out);
  if (report.total.trainable.tensors == 0) {
    out.print("optimizer = None  # nothing trains\n");
    return;
  }
  out.format(
      "parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]\n"
      "optimizer = {}\n",
      constructor(result.optimizer));
}

void emit_names(const FreezeResult& result, const FreezeReport& report, char end, Stream& out) {
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    if (!entry.trains || entry.first != i) continue;
    out.buffer() += result.checkpoint.tensors[entry.tensor].name;
    out.buffer() += end;
    out.settle();
  }
}

void emit_json(const FreezeResult& result, const FreezeReport& report, Stream& out) {
  std::vector<std::string> trainable;
  std::vector<std::string> frozen;
  std::vector<std::string> buffers;
  for (std::size_t i = 0; i < report.entries.size(); ++i) {
    const auto& entry = report.entries[i];
    if (entry.first != i) continue;
    const auto name = result.checkpoint.tensors[entry.tensor].name;
    (!is_parameter(entry) ? buffers : entry.trains ? trainable : frozen).emplace_back(name);
  }
  std::vector<std::string> statistics;
  for (const auto& moving : report.moving) statistics.emplace_back(moving.module);
  JsonWriter json(out);
  json.begin_object();
  json.key("file").string(result.file);
  json.key("root").string(report.root);
  json.key("optimizer").string(optimizer_kind_name(result.optimizer));
  write_names(json, "trainable", "trainable_hex", trainable);
  write_names(json, "frozen", "frozen_hex", frozen);
  write_names(json, "buffers", "buffers_hex", buffers);
  write_names(json, "moving_statistics", "moving_statistics_hex", statistics);
  json.end_object();
  json.finish();
}

}  // namespace ckpt::cli
