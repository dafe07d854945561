// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/device_arguments.h"

#include <algorithm>
#include <string>

namespace ckpt {
namespace {

/// Place of the device among the arguments of a function of torch._utils; 0 for those that take none.
std::size_t device_place(const ValueGraph& graph, Use function) {
  const auto name = graph.global(function);
  if (!name || name->module != "torch._utils") return 0;
  if (name->name == "_rebuild_device_tensor_from_cpu_tensor") return 2;
  if (name->name == "_rebuild_device_tensor_from_numpy") return 2;
  if (name->name == "_rebuild_wrapper_subclass") return 6;
  return 0;
}

bool calls_another(const ValueGraph& graph, Use function) {
  const auto name = graph.global(function);
  return name && name->module == "torch._tensor" && name->name.starts_with("_rebuild_from_type");
}

class DeviceSearch {
 public:
  explicit DeviceSearch(const ValueGraph& graph) : graph_(graph) {}

  std::vector<Use> run(std::string_view but_not) {
    std::vector<Use> found;
    const auto& globals = graph_.global_uses();
    if (std::none_of(globals.begin(), globals.end(), [&](Use use) { return device_place(graph_, use) > 0; }))
      return found;
    for (Use node = 0; node < graph_.size(); ++node) {
      if (graph_.opcode(node) != Opcode::kReduce) continue;
      auto call = operands(node);
      if (calls_another(graph_, call[0])) {
        const auto outer = operands(call[1]);
        if (outer.size() < 3) continue;
        call = {outer[0], outer[2]};
      }
      const auto place = device_place(graph_, call[0]);
      if (place == 0) continue;
      const auto arguments = operands(call[1]);
      if (place >= arguments.size()) continue;
      const auto name = name_of(arguments[place]);
      if (!name.empty() && name != but_not && name != "meta") found.push_back(arguments[place]);
    }
    return found;
  }

 private:
  std::vector<Use> operands(Use use) const {
    std::vector<Use> out;
    graph_.children(graph_.resolve(use), out);
    return out;
  }

  /// "cuda" of 'cuda:1' too, where it is a torch.device.
  std::string name_of(Use device) const {
    if (auto text = graph_.string(device)) return *text;
    const auto call = operands(device);
    if (graph_.opcode(graph_.resolve(device)) != Opcode::kReduce || call.size() != 2) return "";
    const auto arguments = operands(call[1]);
    return arguments.empty() ? "" : graph_.string(arguments[0]).value_or("");
  }

  const ValueGraph& graph_;
};

}  // namespace

std::vector<Use> device_arguments(const ValueGraph& graph, std::string_view but_not) {
  return DeviceSearch(graph).run(but_not);
}

}  // namespace ckpt
