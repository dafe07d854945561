// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/module_object.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/model/packed_modules.h"

namespace ckpt {
namespace {

std::optional<GlobalName> global_of(const ValueGraph& graph, Use use) {
  auto node = graph.resolve(use);
  if (graph.opcode(node) == Opcode::kBinpersid) {
    // legacy streams name a module's class with its source: ('module', class, file, source)
    std::vector<Use> items;
    graph.children(node, items);
    const auto id = graph.resolve(items.front());
    graph.children(id, items);
    if (items.size() < 2 || graph.string_view(items[0]) != "module") return std::nullopt;
    node = graph.resolve(items[1]);
  }
  return graph.global(node);
}

std::string text_of(const GlobalName& name) {
  return fmt::format("{}.{}", name.module, name.name);
}

/// The class that the call or NEWOBJ makes an object of.
std::string type_of(const ValueGraph& graph, const Anatomy& anatomy) {
  if (anatomy.arguments.empty()) return "?";
  auto name = global_of(graph, anatomy.arguments.front());
  const bool by_helper =
      name && name->name == "_reconstructor" && (name->module == "copy_reg" || name->module == "copyreg");
  if (by_helper && anatomy.arguments.size() > 1) name = global_of(graph, anatomy.arguments[1]);
  return name ? text_of(*name) : "?";
}

bool has_tables(const ValueGraph& graph, const std::vector<MappingItem>& state) {
  int found = 0;
  for (const auto& item : state) {
    const auto name = graph.string_view(item.key);
    if (name == "_parameters" || name == "_buffers" || name == "_modules") ++found;
  }
  return found == 3;
}

}  // namespace

Use ModuleObject::find(const ValueGraph& graph, std::string_view name) const {
  for (auto item = state.rbegin(); item != state.rend(); ++item) {
    if (graph.string_view(item->key) == name) return item->value;
  }
  return kNoUse;
}

std::optional<ModuleObject> read_module(const ValueGraph& graph, const Anatomy& anatomy) {
  if (anatomy.kind != ValueKind::kObject) return std::nullopt;
  ModuleObject module;
  module.state = attributes(graph, anatomy.states);
  if (has_tables(graph, module.state)) {
    module.type = type_of(graph, anatomy);
    return module;
  }
  const bool has_one_state = anatomy.states.size() == 1;
  if (has_one_state && graph.opcode(graph.resolve(anatomy.states.front())) == Opcode::kTuple) {
    module.type = type_of(graph, anatomy);
    if (is_packed_convolution(graph, module.type, anatomy.states)) {
      module.form = ModuleForm::kPackedConvolution;
      module.argument = anatomy.states.front();
      module.state.clear();
      return module;
    }
  }
  if (anatomy.arguments.size() < 2) return std::nullopt;
  const auto called = global_of(graph, anatomy.arguments.front());
  if (!called) return std::nullopt;
  module.argument = anatomy.arguments[1];
  module.state.clear();
  if (called->module == "torch._dynamo.eval_frame" && called->name == "OptimizedModule") {
    module.form = ModuleForm::kCompiled;
    module.type = text_of(*called);
    return module;
  }
  const bool is_graph =
      called->module == "torch.fx.graph_module" &&
      (called->name == "reduce_graph_module" || called->name == "reduce_deploy_graph_module");
  if (!is_graph) return std::nullopt;
  Anatomy state;
  dissect(graph, graph.resolve(module.argument), state);
  if (!state.is_mapping() || !has_tables(graph, state.items)) return std::nullopt;
  module.form = ModuleForm::kGraph;
  module.type = "torch.fx.graph_module.GraphModule";
  module.state = state.items;
  return module;
}

std::vector<std::string> names_of_set(const ValueGraph& graph, Use use) {
  Anatomy set;
  dissect(graph, graph.resolve(use), set);
  if (set.kind != ValueKind::kSet && set.arguments.size() > 1) {
    const auto list = graph.resolve(set.arguments[1]);
    dissect(graph, list, set);
  }
  std::vector<std::string> names;
  for (const auto element : set.elements) {
    if (auto name = graph.string(element)) names.push_back(std::move(*name));
  }
  return names;
}

bool hides_its_name(const ValueGraph& graph, const ModuleObject& module) {
  constexpr std::string_view kWrappers = "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.";
  if (!module.type.starts_with(kWrappers)) return false;
  const auto hooks = module.find(graph, "_state_dict_hooks");  // since 1.12
  if (hooks == kNoUse) return false;
  Anatomy table;
  dissect(graph, graph.resolve(hooks), table);
  return !table.items.empty();
}

}  // namespace ckpt
