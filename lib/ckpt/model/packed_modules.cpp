// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/packed_modules.h"

#include <utility>

#include "ckpt/model/module_names.h"

namespace ckpt {
namespace {

/// What `__getstate__` of a quantised convolution returns: twelve arguments of the constructor, and these.
constexpr std::size_t kConvolutionItems = 15;
constexpr std::size_t kConvolutionWeight = 10;

bool is_quantized(std::string_view type) {
  return type.starts_with("torch.") && type.find("quantized.") != type.npos;
}

/// Their keys come from tables and from code of several ages.
bool is_reference(std::string_view type) {
  return type.find("quantized.reference.") != type.npos || type.find("sparse.quantized.") != type.npos;
}

std::vector<Use> elements(const ValueGraph& graph, Use use) {
  if (use == kNoUse) return {};
  Anatomy anatomy;
  dissect(graph, graph.resolve(use), anatomy);
  const bool is_sequence = anatomy.kind == ValueKind::kTuple || anatomy.kind == ValueKind::kList;
  return is_sequence ? std::move(anatomy.elements) : std::vector<Use>();
}

/// What the C++ object at `use` gave to be pickled: a torch.ScriptObject is built from it and its class's
/// name.
Use packed_state(const ValueGraph& graph, Use use) {
  if (use == kNoUse) return kNoUse;
  Anatomy object;
  dissect(graph, graph.resolve(use), object);
  if (object.states.size() != 1) return kNoUse;
  const auto state = elements(graph, object.states.front());
  if (state.size() != 2) return kNoUse;
  const auto name = graph.string_view(state[1]);
  return name && name->starts_with("__torch__.torch.classes.quantized.") ? state[0] : kNoUse;
}

bool is_number(const ValueGraph& graph, Use use) {
  return graph.integer(use).has_value() || graph.floating(use).has_value();
}

class KeyReader {
 public:
  KeyReader(const ValueGraph& graph, const ModuleObject& module) : graph_(graph), module_(module) {}

  PackedKeys run() {
    const auto name = leaf_of(module_.type);
    if (is_reference(module_.type)) {
      keys_.known = false;
    } else if (module_.form == ModuleForm::kPackedConvolution) {
      add_convolution();
    } else if (name == "LinearPackedParams") {
      add("dtype");
      add("_packed_params", packed_state(graph_, find("_packed_params")));  // (weight, bias or None)
    } else if (name == "EmbeddingPackedParams") {
      add("dtype");
      add("_packed_weight", embedding_weight());
    } else if (name == "PackedParameter") {
      add("param");
    } else if (name == "RNNCell" || name == "LSTMCell" || name == "GRUCell") {
      add("_packed_weight_ih");
      add("_packed_weight_hh");
    } else if (name.starts_with("Linear") || name == "QFunctional") {
      add_number("scale", find("scale"));
      add_number("zero_point", find("zero_point"));
    } else if (name.starts_with("Conv")) {
      keys_.known = false;
    }
    if (!keys_.known) keys_.keys.clear();
    return std::move(keys_);
  }

 private:
  Use find(std::string_view name) const { return module_.find(graph_, name); }

  void add(std::string_view name) { add(name, find(name)); }

  void add(std::string_view name, Use value) {
    keys_.known = keys_.known && value != kNoUse;
    keys_.keys.push_back({name, value});
  }

  void add_number(std::string_view name, Use value) {
    add(name, value != kNoUse && is_number(graph_, value) ? value : kNoUse);
  }

  void add_convolution() {
    const auto state = elements(graph_, module_.argument);
    if (state.size() != kConvolutionItems) {
      keys_.known = false;
      return;
    }
    add("weight", state[kConvolutionWeight]);
    add("bias", state[kConvolutionWeight + 1]);  // None where there is none
    add_number("scale", state[kConvolutionWeight + 2]);
    add_number("zero_point", state[kConvolutionWeight + 3]);
  }

  /// It was packed from (version, [weight], [], [bits]).
  Use embedding_weight() const {
    const auto state = elements(graph_, packed_state(graph_, find("_packed_weight")));
    if (state.size() != 4) return kNoUse;
    const auto weights = elements(graph_, state[1]);
    return weights.size() == 1 ? weights.front() : kNoUse;
  }

  const ValueGraph& graph_;
  const ModuleObject& module_;
  PackedKeys keys_;
};

}  // namespace

PackedKeys packed_keys(const ValueGraph& graph, const ModuleObject& module) {
  return is_quantized(module.type) ? KeyReader(graph, module).run() : PackedKeys();
}

std::int64_t packed_version(std::string_view type) {
  if (!is_quantized(type) || is_reference(type)) return 1;
  const auto name = leaf_of(type);
  if (name == "LinearPackedParams") return 3;
  if (!name.starts_with("Linear")) return 1;
  return type.find("quantized.dynamic.") != type.npos ? 4 : 3;
}

bool is_packed_convolution(const ValueGraph& graph, std::string_view type, const std::vector<Use>& states) {
  if (!is_quantized(type) || is_reference(type) || !leaf_of(type).starts_with("Conv")) return false;
  return states.size() == 1 && elements(graph, states.front()).size() == kConvolutionItems;
}

}  // namespace ckpt
