// SPDX-License-Identifier: BSD-3-Clause
#include "support/pickle_printer.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::testing {

std::string print_value(const ValueGraph& graph, Use node) {
  if (graph.is_bytes(node)) return counted(graph.body_size(node), "byte");
  if (graph.is_string(node)) {
    const auto text = graph.string(node);
    return text ? json_string(*text) : fmt::format("string of {}", counted(graph.body_size(node), "byte"));
  }
  if (const auto number = graph.integer(node)) return fmt::format("{}", *number);
  if (const auto number = graph.floating(node)) return fmt::format("{}", *number);
  if (const auto truth = graph.boolean(node)) return *truth ? "True" : "False";
  if (const auto global = graph.global(node)) return fmt::format("{}.{}", global->module, global->name);
  if (graph.is_none(node)) return "None";
  return std::string(opcode_info(graph.opcode(graph.resolve(node))).name);
}

std::string print(const ValueGraph& graph) {
  std::string out;
  std::vector<Use> marks;
  for (Use node = 0; node < graph.size(); ++node) {
    const auto name = opcode_info(graph.opcode(node)).name;
    while (!marks.empty() && graph.start(node) <= marks.back()) marks.pop_back();
    out += fmt::format("{} {}{}", node, std::string(2 * marks.size(), ' '), name);
    const auto value = print_value(graph, node);
    if (value != name) out += " " + value;
    if (graph.repeats(node)) {
      out += fmt::format(", repeats {}", graph.repeated(node));
    } else if (graph.start(node) != node) {
      out += fmt::format(", from {}", graph.start(node));
    }
    if (graph.finished(node) != node) out += fmt::format(", finished {}", graph.finished(node));
    out += '\n';
    if (graph.opcode(node) == Opcode::kMark) marks.push_back(node);
  }
  return out;
}

}  // namespace ckpt::testing
