// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/role_evidence.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "ckpt/model/anatomy.h"
#include "ckpt/model/module_names.h"
#include "ckpt/model/optimizer_parameters.h"
#include "ckpt/model/parameter_roles.h"
#include "ckpt/model/ties.h"

namespace ckpt {
namespace {

constexpr std::int64_t kVersionOfNorms = 2;  // of batch and instance norms; every other layer has 1

bool is_class_token(std::string_view leaf) {
  return leaf == "class_token" || leaf == "cls_token";
}

/// What `_metadata` has about modules, as far as it tells kinds.
struct ModuleFacts {
  std::unordered_set<std::string> norms;       ///< modules of version 2
  std::unordered_set<std::string> normalized;  ///< "conv.weight" for a weight under spectral_norm
};

class MetadataReader {
 public:
  explicit MetadataReader(const ValueGraph& graph) : graph_(graph) {}

  ModuleFacts read(const StateDict& dict) {
    ModuleFacts facts;
    dissect(graph_, dict.mapping, anatomy_);
    for (const auto& attribute : attributes(graph_, anatomy_.states)) {
      if (graph_.string_view(attribute.key) != "_metadata") continue;
      dissect(graph_, graph_.resolve(attribute.value), anatomy_);
      const auto modules = anatomy_.items;
      for (const auto& module : modules) {
        if (const auto name = graph_.string(module.key)) read_module(*name, module.value, facts);
      }
    }
    return facts;
  }

 private:
  void read_module(const std::string& name, Use value, ModuleFacts& facts) {
    dissect(graph_, graph_.resolve(value), anatomy_);
    std::optional<Use> spectral;
    for (const auto& item : anatomy_.items) {
      const auto key = graph_.string_view(item.key);
      if (key == "version" && graph_.integer(item.value) == kVersionOfNorms) facts.norms.insert(name);
      if (key == "spectral_norm") spectral = item.value;
    }
    if (!spectral) return;
    constexpr std::string_view kVersion = ".version";  // "weight.version"
    dissect(graph_, graph_.resolve(*spectral), anatomy_);
    for (const auto& item : anatomy_.items) {
      const auto key = graph_.string(item.key);
      if (!key || !key->ends_with(kVersion)) continue;
      const auto weight = key->substr(0, key->size() - kVersion.size());
      facts.normalized.insert(name.empty() ? weight : name + '.' + weight);
    }
  }

  const ValueGraph& graph_;
  Anatomy anatomy_;
};

/// The tensors of one state dict, with what is noted about them.
class Notes {
 public:
  Notes(Checkpoint& checkpoint, std::uint32_t state_dict)
      : checkpoint_(checkpoint), dict_(checkpoint.state_dicts[state_dict]) {}

  /// One look at all keys, most of which tell nothing.
  void look() {
    each([&](const TensorInfo& tensor) {
      const auto leaf = leaf_of(tensor.name);
      has_statistics_ = has_statistics_ || is_running_statistic(leaf);
      has_originals_ = has_originals_ || leaf.ends_with("_orig");
      has_class_token_ = has_class_token_ || is_class_token(leaf);
    });
  }

  void from_metadata() {
    if (dict_.mapping == kNoUse || (!has_statistics_ && !has_originals_)) return;
    const auto facts = MetadataReader(checkpoint_.graph()).read(dict_);
    std::unordered_set<std::string_view> with_statistics;
    each([&](TensorInfo& tensor) {
      const auto module = module_of(tensor.name);
      if (!is_running_statistic(leaf_of(tensor.name)) || !facts.norms.contains(std::string(module))) return;
      with_statistics.insert(module);
      tensor.noted = {RoleKind::kBuffer, RoleEvidence::kMetadata};
    });
    each([&](TensorInfo& tensor) {
      const auto leaf = leaf_of(tensor.name);
      if ((leaf == "weight" || leaf == "bias") && with_statistics.contains(module_of(tensor.name)))
        tensor.noted = {RoleKind::kParameter, RoleEvidence::kMetadata};
      for (const auto& [suffix, kind] : kSpectral) {
        if (!tensor.name.ends_with(suffix)) continue;
        const std::string weight(tensor.name.substr(0, tensor.name.size() - suffix.size()));
        if (facts.normalized.contains(weight)) tensor.noted = {kind, RoleEvidence::kMetadata};
      }
    });
  }

  void from_siblings() {
    if (has_originals_) from_originals();
    if (has_class_token_) from_class_tokens();
  }

  void from_optimizer(const OptimizerParameters& optimizer) {
    each([&](TensorInfo& tensor) {
      if (optimizer.names.contains(std::string(tensor.name))) note_parameter(tensor);
    });
    if (!optimizer.names.empty()) return;
    if (optimizer.shapes.empty() || optimizer.shapes.size() > dict_.entries.size()) return;
    for (const auto& [place, candidate] : unique_embedding(optimizer, may_train())) {
      if (optimizer.shapes[place]) note_parameter(*candidate);
    }
  }

 private:
  struct Suffix {
    std::string_view text;
    RoleKind kind;
  };

  static constexpr std::array<Suffix, 3> kSpectral = {
      {{"_orig", RoleKind::kParameter}, {"_u", RoleKind::kBuffer}, {"_v", RoleKind::kBuffer}}};

  /// What `_metadata` says of spectral_norm, from names that stand together where it or prune put them.
  void from_originals() {
    std::unordered_map<std::string_view, bool> originals;  // by name without suffix: has it a `_u`?
    each([&](TensorInfo& tensor) {
      if (tensor.name.ends_with("_orig"))
        originals.emplace(tensor.name.substr(0, tensor.name.size() - 5), false);
    });
    const auto original_of = [&](std::string_view name, std::string_view suffix) {
      return name.ends_with(suffix) ? originals.find(name.substr(0, name.size() - suffix.size()))
                                    : originals.end();
    };
    each([&](TensorInfo& tensor) {
      if (const auto found = original_of(tensor.name, "_u"); found != originals.end()) found->second = true;
    });
    each([&](TensorInfo& tensor) {
      const auto spectral = original_of(tensor.name, "_v");
      const bool is_vector = spectral != originals.end() && spectral->second;
      const bool is_mask = original_of(tensor.name, "_mask") != originals.end();
      const bool has_none = tensor.noted.evidence == RoleEvidence::kNothing;
      if (has_none && (is_vector || is_mask)) tensor.noted = {RoleKind::kBuffer, RoleEvidence::kName};
    });
  }

  /// Positions are learned where there is a class token beside them, or in the module around: in
  /// torchvision's ViT and its kin. Elsewhere they may be computed.
  void from_class_tokens() {
    std::unordered_set<std::string_view> modules;
    each([&](const TensorInfo& tensor) {
      if (is_class_token(leaf_of(tensor.name))) modules.insert(module_of(tensor.name));
    });
    each([&](TensorInfo& tensor) {
      const auto leaf = leaf_of(tensor.name);
      const auto module = module_of(tensor.name);
      if (leaf != "pos_embedding" && leaf != "pos_embed" && leaf != "position_embeddings") return;
      if (modules.contains(module) || modules.contains(module_of(module)))
        tensor.noted = {RoleKind::kParameter, RoleEvidence::kName};
    });
  }

  template <typename Do>
  void each(const Do& act) {
    for (const auto& entry : dict_.entries) {
      if (entry.tensor != kNoIndex) act(checkpoint_.tensors[entry.tensor]);
    }
  }

  static void note_parameter(TensorInfo& tensor) {
    if (tensor.noted.kind != RoleKind::kBuffer)
      tensor.noted = {RoleKind::kParameter, RoleEvidence::kOptimizer};
  }

  /// Tensors that nothing calls a buffer, as parameters() would list them.
  std::vector<TensorInfo*> may_train() {
    const auto first = first_of_ties(checkpoint_, dict_);
    std::vector<TensorInfo*> out;
    for (std::uint32_t i = 0; i < dict_.entries.size(); ++i) {
      if (dict_.entries[i].tensor == kNoIndex || first[i] != i) continue;
      auto& tensor = checkpoint_.tensors[dict_.entries[i].tensor];
      if (role_of(checkpoint_, tensor).kind != RoleKind::kBuffer) out.push_back(&tensor);
    }
    return out;
  }

  bool fits(const std::optional<std::vector<std::int64_t>>& shape, const TensorInfo& tensor) const {
    return !shape || std::ranges::equal(*shape, checkpoint_.shape(tensor));
  }

  /// The states of the optimizer and the candidates that they belong to, where there is one way alone to lay
  /// the former, in order, over the latter: the way that takes each as early as it can is then the one that
  /// takes each as late as it can.
  std::vector<std::pair<std::size_t, TensorInfo*>> unique_embedding(
      const OptimizerParameters& optimizer, const std::vector<TensorInfo*>& candidates) const {
    const auto& shapes = optimizer.shapes;
    if (shapes.size() > candidates.size()) return {};
    if (optimizer.groups > 1 && shapes.size() < candidates.size()) return {};  // their order may be another
    std::vector<std::size_t> early;
    for (std::size_t at = 0; at < candidates.size() && early.size() < shapes.size(); ++at) {
      if (fits(shapes[early.size()], *candidates[at])) early.push_back(at);
    }
    if (early.size() < shapes.size()) return {};
    std::vector<std::pair<std::size_t, TensorInfo*>> out;
    auto left = shapes.size();
    for (auto at = candidates.size(); at-- > 0 && left > 0;) {
      if (!fits(shapes[left - 1], *candidates[at])) continue;
      --left;
      if (early[left] != at) return {};
      out.emplace_back(left, candidates[at]);
    }
    return out;
  }

  Checkpoint& checkpoint_;
  const StateDict& dict_;
  bool has_statistics_ = false;
  bool has_originals_ = false;
  bool has_class_token_ = false;
};

}  // namespace

void note_roles(Checkpoint& checkpoint) {
  const auto optimizers = optimizer_parameters(checkpoint);
  for (std::uint32_t i = 0; i < checkpoint.state_dicts.size(); ++i) {
    if (checkpoint.state_dicts[i].of_module) continue;
    Notes notes(checkpoint, i);
    notes.look();
    notes.from_metadata();
    notes.from_siblings();
    for (const auto& optimizer : optimizers) notes.from_optimizer(optimizer);
  }
}

}  // namespace ckpt
