// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/optimizer_parameters.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <unordered_map>

#include "ckpt/model/anatomy.h"
#include "ckpt/model/optimizer_state.h"

namespace ckpt {
namespace {

/// The shape on which the tensors of one parameter's state agree. Counters of steps are scalars and count
/// only where there is nothing else.
class StateShape {
 public:
  void add(std::span<const std::int64_t> shape, std::string_view name) {
    if (name == "step") return;
    if (is_factor(name)) agree_ = false;
    if (shape.empty() && shape_) return;
    if (!shape_ || shape_->empty()) {
      shape_.emplace(shape.begin(), shape.end());
    } else if (!std::ranges::equal(*shape_, shape)) {
      agree_ = false;
    }
  }

  std::optional<std::vector<std::int64_t>> shape() const { return agree_ ? shape_ : std::nullopt; }

 private:
  std::optional<std::vector<std::int64_t>> shape_;
  bool agree_ = true;
};

using StateShapes = std::unordered_map<std::int64_t, StateShape>;  // by parameter

/// By the place of each optimizer.
using ShapesByOptimizer = std::unordered_map<PlaceId, StateShapes>;

/// Tensors at OPTIMIZER.state{i}.NAME.
void collect_shapes(const Checkpoint& checkpoint, ShapesByOptimizer& out) {
  const auto& graph = checkpoint.graph();
  const auto& places = checkpoint.places;
  for (const auto& tensor : checkpoint.tensors) {
    if (tensor.state_dict != kNoIndex || tensor.has(kIsPart)) continue;
    const auto& name = places[tensor.place];
    if (name.kind != StepKind::kItem) continue;
    const auto& index = places[name.parent];
    if (index.kind != StepKind::kItem) continue;
    const auto& state = places[index.parent];
    if (state.kind != StepKind::kItem || graph.string_view(state.step) != "state") continue;
    const auto optimizer = out.find(state.parent);
    const auto parameter = graph.integer(index.step);
    if (optimizer == out.end() || !parameter) continue;
    optimizer->second[*parameter].add(checkpoint.shape(tensor), graph.string_view(name.step).value_or(""));
  }
}

class GroupReader {
 public:
  GroupReader(const ValueGraph& graph, const StateShapes& shapes) : graph_(graph), shapes_(shapes) {}

  OptimizerParameters read(Use optimizer) {
    for (const auto& item : items(optimizer)) {
      if (graph_.string_view(item.key) != "param_groups") continue;
      for (const auto group : elements(item.value)) read_group(group);
    }
    return std::move(out_);
  }

 private:
  void read_group(Use group) {
    ++out_.groups;
    for (const auto& item : items(group)) {
      const auto key = graph_.string_view(item.key);
      if (key != "params" && key != "param_names") continue;
      for (const auto element : elements(item.value)) {
        if (auto name = graph_.string(element)) {
          out_.names.insert(std::move(*name));
        } else if (const auto index = graph_.integer(element); index && key == "params") {
          const auto found = shapes_.find(*index);
          out_.shapes.push_back(found == shapes_.end() ? std::nullopt : found->second.shape());
        }
      }
    }
  }

  std::vector<MappingItem> items(Use use) {
    dissect(graph_, graph_.resolve(use), anatomy_);
    return anatomy_.items;
  }

  std::vector<Use> elements(Use use) {
    dissect(graph_, graph_.resolve(use), anatomy_);
    return anatomy_.elements;
  }

  const ValueGraph& graph_;
  const StateShapes& shapes_;
  Anatomy anatomy_;
  OptimizerParameters out_;
};

}  // namespace

std::vector<OptimizerParameters> optimizer_parameters(const Checkpoint& checkpoint) {
  ShapesByOptimizer shapes;
  for (const auto& mapping : checkpoint.mappings) {
    if (mapping.is_optimizer && shapes.size() < kMostOptimizers) shapes.emplace(mapping.place, StateShapes());
  }
  if (shapes.empty()) return {};
  collect_shapes(checkpoint, shapes);
  std::vector<OptimizerParameters> out;
  for (const auto& mapping : checkpoint.mappings) {
    const auto found = mapping.is_optimizer ? shapes.find(mapping.place) : shapes.end();
    if (found != shapes.end())
      out.push_back(GroupReader(checkpoint.graph(), found->second).read(mapping.use));
  }
  return out;
}

}  // namespace ckpt
