// SPDX-License-Identifier: BSD-3-Clause
// Last layers for another number of classes: initialised as PyTorch would, with the old rows that the user
// wants to keep.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/compute/layer_init.h"
#include "ckpt/compute/overlaid_source.h"
#include "ckpt/edit/edits.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/lookup.h"
#include "ckpt/model/module_names.h"

namespace ckpt {
namespace {

using Shape = std::vector<std::int64_t>;
using Kept = std::vector<ReplaceHead::KeptRow>;

bool is_weight(const Checkpoint& checkpoint, const EditedKey& key) {
  if (key.dropped || key.tensor == kNoIndex || !key.name.ends_with(".weight")) return false;
  const auto rank = checkpoint.tensors[key.tensor].rank;
  return rank >= 2 && rank <= 5;
}

std::string layer_of(const EditedKey& weight) {
  return weight.name.substr(0, weight.name.size() - std::string_view(".weight").size());
}

bool looks_like_embedding(std::string_view layer) {
  for (const auto* word : {"embed", "emb.", "wte", "wpe"}) {
    if (layer.find(word) != layer.npos) return true;
  }
  return layer.ends_with("emb");
}

Shape shape_of(const Checkpoint& checkpoint, const EditedKey& key) {
  const auto shape = checkpoint.shape(checkpoint.tensors[key.tensor]);
  return {shape.begin(), shape.end()};
}

/// Another key of the dict on the same storage, or null.
const EditedKey* tied_to(const Checkpoint& checkpoint, const EditedStateDict& dict, const EditedKey& key) {
  const auto storage = checkpoint.tensors[key.tensor].storage;
  if (storage == kNoIndex || checkpoint.numel(checkpoint.tensors[key.tensor]) == 0) return nullptr;
  for (const auto& other : dict.keys) {
    if (&other == &key || other.dropped || other.tensor == kNoIndex) continue;
    const auto& row = checkpoint.tensors[other.tensor];
    if (row.storage == storage &&
        checkpoint.view_extent(row).offset < checkpoint.view_extent(checkpoint.tensors[key.tensor]).end() &&
        checkpoint.view_extent(checkpoint.tensors[key.tensor]).offset < checkpoint.view_extent(row).end())
      return &other;
  }
  return nullptr;
}

/// Keys of a layer whose weight is made of other tensors, or packed, and what is said of it.
struct MadeWeight {
  std::string_view key;  ///< behind the layer's name
  std::string_view what;
};

constexpr std::array<MadeWeight, 6> kMadeWeights = {{
    {".weight_g", "is weight-normed: its weight is computed from two tensors"},
    {".parametrizations.weight.original0", "is weight-normed: its weight is computed from two tensors"},
    {".parametrizations.weight.original", "has a parametrised weight"},
    {".weight_orig", "is pruned or spectral-normed: its weight is computed from weight_orig"},
    {"._packed_params._packed_params", "is quantised: its weight is packed"},
    {"._packed_params.dtype", "is quantised: its weight is packed"},
}};

/// The layer whose weight is made so; none for other keys.
std::optional<std::string> layer_of_made(const EditedKey& key) {
  for (const auto& made : kMadeWeights) {
    if (key.name.ends_with(made.key)) return key.name.substr(0, key.name.size() - made.key.size());
  }
  return std::nullopt;
}

/// Layers of which a state dict has the weight packed, in an object.
std::set<std::string> packed_layers(const Checkpoint& checkpoint, const EditedStateDict& dict) {
  constexpr std::string_view kPacked = "._packed_params._packed_params";
  std::set<std::string> layers;
  for (const auto& key : carried_keys(dict, checkpoint)) {
    if (key.ends_with(kPacked)) layers.insert(key.substr(0, key.size() - kPacked.size()));
  }
  return layers;
}

/// What a whole module says of itself, beside its weight.
class ModuleOfWeight {
 public:
  ModuleOfWeight(const Checkpoint& checkpoint, PlaceId weight) : checkpoint_(checkpoint) {
    const std::string_view step =
        checkpoint.format == FormatId::kTorchScript ? "@weight" : "@_parameters.weight";
    path_ = checkpoint.path(weight);
    is_known_ = path_.ends_with(step);
    if (is_known_) path_.resize(path_.size() - step.size());
  }

  /// The value of an attribute; none where there is no such.
  std::optional<Use> attribute(std::string_view name) const {
    if (!is_known_) return std::nullopt;
    const auto found = find_value(checkpoint_, fmt::format("{}@{}", path_, name));
    if (!found.ok()) return std::nullopt;
    return found->value;
  }

  bool is_embedding() const { return attribute("num_embeddings").has_value(); }

  /// Its weight's first size is that of its input.
  bool is_transposed() const {
    const auto transposed = attribute("transposed");
    return transposed && checkpoint_.graph().boolean(*transposed) == true;
  }

  std::int64_t groups() const {
    const auto groups = attribute("groups");
    return groups ? checkpoint_.graph().integer(*groups).value_or(1) : 1;
  }

 private:
  const Checkpoint& checkpoint_;
  std::string path_;
  bool is_known_ = false;
};

bool is_embedding(const Checkpoint& checkpoint, const EditedStateDict& dict, const EditedKey& weight) {
  return looks_like_embedding(layer_of(weight)) ||
         (checkpoint.state_dicts[dict.index].of_module &&
          ModuleOfWeight(checkpoint, checkpoint.tensors[weight.tensor].place).is_embedding());
}

std::string described(const Checkpoint& checkpoint, const EditedKey& weight) {
  return fmt::format("{} {}", quoted(layer_of(weight)), torch_size(shape_of(checkpoint, weight)));
}

/// The layer whose weight comes last, if it is a head by its looks, or can't be replaced, which is said
/// later.
Result<std::string> find_head(const Checkpoint& checkpoint, const EditedStateDict& dict) {
  const auto packed = packed_layers(checkpoint, dict);
  std::vector<const EditedKey*> weights;
  std::optional<std::string> made;  // behind the last of them
  for (const auto& key : dict.keys) {
    if (is_weight(checkpoint, key) && !is_embedding(checkpoint, dict, key) &&
        tied_to(checkpoint, dict, key) == nullptr) {
      weights.push_back(&key);
      made.reset();
    } else if (auto layer = key.dropped ? std::nullopt : layer_of_made(key)) {
      made = std::move(layer);
    } else if (const std::string module(module_of(key.name)); packed.contains(module)) {
      made = module;
    }
  }
  if (made) return *made;
  const auto first_size = [&](const EditedKey* key) {
    return checkpoint.shape(checkpoint.tensors[key->tensor])[0];
  };
  if (!weights.empty()) {
    const auto same = std::count_if(weights.begin(), weights.end(), [&](const EditedKey* key) {
      return first_size(key) == first_size(weights.back());
    });
    if (same == 1) return layer_of(*weights.back());
  }
  constexpr std::size_t kShown = 5;
  std::vector<std::string> candidates;
  for (auto weight = weights.rbegin(); weight != weights.rend() && candidates.size() < kShown; ++weight)
    candidates.push_back(described(checkpoint, **weight));
  if (candidates.empty())
    return Error(ErrorCode::kNotFound, "no layer looks like a head").with_hint("name it with --head");
  return Error(ErrorCode::kRefused, "no single layer looks like the head")
      .with_hint(fmt::format("name it with --head; the last layers are {}", fmt::join(candidates, ", ")));
}

/// A head in one state dict.
struct Head {
  EditedKey* weight = nullptr;
  EditedKey* bias = nullptr;  ///< null if there is none
};

class HeadReplacement {
 public:
  HeadReplacement(const ReplaceHead& edit, EditContext& context, EditedStateDict& dict)
      : edit_(edit),
        checkpoint_(context.checkpoint),
        dict_(dict),
        report_(report_of(context.report, dict.root)) {}

  bool has(const std::string& name) const {
    return std::any_of(dict_.keys.begin(), dict_.keys.end(), [&](const EditedKey& key) {
      return !key.dropped && key.name.size() > name.size() && key.name.starts_with(name) &&
             key.name[name.size()] == '.';
    });
  }

  Status replace(const std::string& name, TorchRandom& random) {
    CKPT_ASSIGN_OR_RETURN(const auto head, locate(name));
    const auto old = checkpoint_.tensors[head.weight->tensor];  // a copy: the row changes
    const auto old_shape = shape_of(checkpoint_, *head.weight);
    CKPT_ASSIGN_OR_RETURN(const auto kept, rows_to_keep(old_shape[0]));
    CKPT_RETURN_IF_ERROR(check_groups(name, old.place));
    auto shape = old_shape;
    shape[0] = classes_;
    if (edit_.in_features) {
      if (!kept.empty() && *edit_.in_features != shape[1])
        return usage("rows can't be kept where --in-features changes their size");
      shape[1] = *edit_.in_features;
    }
    const bool has_bias = head.bias != nullptr && !edit_.no_bias;
    auto values = initial_layer(random, edit_.init, edit_.torch, old.dtype, shape, has_bias, false);
    if (!values.ok()) return at(name, std::move(values).error());
    if (has_bias) {
      const auto old_bias = checkpoint_.tensors[head.bias->tensor];
      if (old_bias.dtype != old.dtype)
        return at(name, Error(ErrorCode::kUnsupported, "the bias has another dtype than the weight"));
      CKPT_RETURN_IF_ERROR(keep_rows(kept, old_bias, values->bias));
      put(*head.bias, std::move(values->bias), {classes_});
    }
    if (values->large_weight != nullptr) {
      CKPT_RETURN_IF_ERROR(put_large(*head.weight, kept, std::move(values->large_weight), shape));
    } else {
      CKPT_RETURN_IF_ERROR(keep_rows(kept, old, values->weight));
      put(*head.weight, std::move(values->weight), shape);
    }
    if (checkpoint_.state_dicts[dict_.index].of_module) set_attributes(old.place, shape);
    if (head.bias != nullptr && edit_.no_bias) head.bias->dropped = true;
    report_.heads.push_back({name, edit_.rename.value_or(name), old_shape, shape, kept.size(), edit_.seed});
    if (edit_.rename) rename(name, *edit_.rename);
    return {};
  }

 private:
  static Error usage(std::string message) { return Error(ErrorCode::kUsage, std::move(message)); }

  static Error at(const std::string& name, const Error& error) {
    return Error(error.code(), fmt::format("head {}: {}", quoted(name), error.message()))
        .with_hint(error.hint());
  }

  EditedKey* find(const std::string& name) const {
    for (auto& key : dict_.keys) {
      if (!key.dropped && key.name == name) return &key;
    }
    return nullptr;
  }

  Result<Head> locate(const std::string& name) const {
    const auto refused = [&](std::string_view why) {
      return Error(ErrorCode::kUnsupported, fmt::format("head {} {}", quoted(name), why));
    };
    for (const auto& made : kMadeWeights) {
      if (find(name + std::string(made.key)) != nullptr) return refused(made.what);
    }
    if (packed_layers(checkpoint_, dict_).contains(name))
      return refused("is quantised: its weight is packed");
    Head head{find(name + ".weight"), find(name + ".bias")};
    if (head.weight == nullptr || head.weight->tensor == kNoIndex) {
      std::vector<std::string> layers;
      for (const auto& key : dict_.keys) {
        if (is_weight(checkpoint_, key)) layers.push_back(layer_of(key));
      }
      Error error(ErrorCode::kNotFound, fmt::format("no key is called {}", quoted(name + ".weight")));
      const auto near = nearest(name, layers);
      if (near.empty()) return error;
      return std::move(error).with_hint(fmt::format("did you mean --head {}?", near));
    }
    const auto& row = checkpoint_.tensors[head.weight->tensor];
    if (row.layout != TensorLayout::kStrided || row.storage == kNoIndex)
      return refused(fmt::format("has a weight of layout {}", tensor_layout_name(row.layout)));
    if (row.rank < 2 || row.rank > 5)
      return refused(fmt::format("has a weight of shape {}: expected 2 to 5 dimensions",
                                 torch_size(shape_of(checkpoint_, *head.weight))));
    if (const auto* other = tied_to(checkpoint_, dict_, *head.weight))
      return refused(fmt::format("is tied: {} is the same tensor", quoted(other->name)));
    const bool strange_bias = head.bias != nullptr && (head.bias->tensor == kNoIndex ||
                                                       shape_of(checkpoint_, *head.bias) !=
                                                           Shape{shape_of(checkpoint_, *head.weight)[0]});
    if (strange_bias) return refused("has a bias of another size than its weight");
    if (checkpoint_.state_dicts[dict_.index].of_module) {
      const ModuleOfWeight module(checkpoint_, row.place);
      if (module.is_transposed())
        return refused("is a transposed convolution: the rows of its weight are channels of its input");
      if (module.is_embedding()) return refused("is an embedding");
    }
    return head;
  }

  /// A grouped convolution has as many outputs for each group.
  Status check_groups(const std::string& name, PlaceId weight) const {
    if (!checkpoint_.state_dicts[dict_.index].of_module) return {};
    const auto groups = ModuleOfWeight(checkpoint_, weight).groups();
    if (groups < 1 || classes_ % groups == 0) return {};
    return usage(fmt::format("head {} has {} groups, and {} classes can't be divided by that", quoted(name),
                             groups, classes_));
  }

  /// Which old rows stay, and where; sets the number of classes.
  Result<Kept> rows_to_keep(std::int64_t old_classes) {
    Kept kept = edit_.rows;
    std::set<std::int64_t> named;
    for (const auto& [to, from] : kept) {
      if (!named.insert(to).second)
        return usage(fmt::format("two rows are to be row {} of the new head", to));
    }
    classes_ = kept.empty() ? old_classes - edit_.label_offset : 0;
    for (const auto& [to, from] : kept) classes_ = std::max(classes_, to + 1);
    classes_ = edit_.num_classes.value_or(classes_);
    if (classes_ < 1)
      return usage(fmt::format("no class would be left: the old head has {}, --label-offset is {}",
                               old_classes, edit_.label_offset));
    const auto background = edit_.background;
    const auto last = ReplaceHead::Background::kLast;
    if (edit_.keep_rows || edit_.label_offset > 0) {
      const auto begin = std::int64_t{background == ReplaceHead::Background::kFirst ? 1 : 0};
      const auto new_end = classes_ - (background == last ? 1 : 0);
      const auto old_end = old_classes - (background == last ? 1 : 0);
      for (auto to = begin; to < new_end && to + edit_.label_offset < old_end; ++to)
        kept.push_back({to, to + edit_.label_offset});
    }
    if (background == ReplaceHead::Background::kFirst) kept.push_back({0, 0});
    if (background == last) kept.push_back({classes_ - 1, old_classes - 1});
    for (const auto& [to, from] : kept) {
      if (to >= 0 && to < classes_ && from >= 0 && from < old_classes) continue;
      return usage(fmt::format("row {} can't be row {} of the new head: the old one has {}, the new one {}",
                               from, to, counted(static_cast<std::uint64_t>(old_classes), "row"), classes_));
    }
    return kept;
  }

  /// The old tensor's rows.
  Result<Gather> old_rows(const TensorInfo& old) const {
    const auto& storage = checkpoint_.storages[old.storage];
    if (!storage.is_added && storage.bytes > 0 && storage.extent.size == 0)
      return Error(ErrorCode::kUnsupported,
                   fmt::format("rows of {} can't be read: it lies in a compressed record", quoted(old.name)));
    const auto [source, begin] = bytes_of(storage);
    const auto shape = checkpoint_.shape(old);
    return Gather{source,    begin,     old.offset, {shape.begin(), shape.end()}, checkpoint_.strides(old),
                  old.dtype, old.dtype, false};
  }

  /// Copies rows of the old tensor over those of `values`.
  Status keep_rows(const Kept& kept, const TensorInfo& old, Bytes& values) const {
    if (kept.empty() || values.empty()) return {};
    CKPT_ASSIGN_OR_RETURN(auto view, old_rows(old));
    GatheredSource rows("rows of the old head");
    rows.add(std::move(view));
    const auto size = values.size() / static_cast<std::size_t>(classes_);
    for (const auto& [to, from] : kept) {
      const auto row = std::span(values).subspan(static_cast<std::size_t>(to) * size, size);
      CKPT_RETURN_IF_ERROR(rows.read_at(static_cast<std::uint64_t>(from) * size, row));
      if (has_turned_bytes(checkpoint_, old)) swap_byte_order(old.dtype, row);
    }
    return {};
  }

  /// Where the bytes of a storage of the file, or one that an edit before has added, begin.
  std::pair<std::shared_ptr<const ByteSource>, std::uint64_t> bytes_of(const Storage& storage) const {
    if (!storage.is_added) return {checkpoint_.parts.front().source, storage.extent.offset};
    const auto& data = checkpoint_.added_data[storage.record];
    if (data.in_memory) return {std::make_shared<MemorySource>("head", *data.in_memory), 0};
    return {checkpoint_.parts[data.part].source, data.extent.offset};
  }

  void put(EditedKey& key, Bytes values, Shape shape) {
    const auto row = checkpoint_.tensors[key.tensor];
    if (has_turned_bytes(checkpoint_, row)) swap_byte_order(row.dtype, values);
    set_values(key, DataRef::of_bytes(std::move(values)), std::move(shape));
  }

  /// A weight that is never whole in memory, with the rows of the old one that stay.
  Status put_large(EditedKey& key, const Kept& kept, std::shared_ptr<const ByteSource> values, Shape shape) {
    const auto row = checkpoint_.tensors[key.tensor];
    if (has_turned_bytes(checkpoint_, row)) values = turned(std::move(values), row.dtype);
    const auto size = values->size();
    if (!kept.empty()) {
      CKPT_ASSIGN_OR_RETURN(auto rows, old_rows(row));
      OverlaidSource::Rows places;
      for (const auto& [to, from] : kept)
        places.insert_or_assign(static_cast<std::uint64_t>(to), static_cast<std::uint64_t>(from));
      values = std::make_shared<OverlaidSource>(std::move(values), std::move(rows), std::move(places));
    }
    checkpoint_.parts.push_back({std::move(values), {}, {}});
    const auto part = static_cast<std::uint32_t>(checkpoint_.parts.size() - 1);
    set_values(key, {part, {0, size}, std::nullopt, nullptr}, std::move(shape));
    return {};
  }

  /// The same numbers in the other byte order.
  static std::shared_ptr<const ByteSource> turned(std::shared_ptr<const ByteSource> values, Dtype dtype) {
    const auto count = static_cast<std::int64_t>(values->size() / dtype_info(dtype).item_size);
    auto out = std::make_shared<GatheredSource>(values->name());
    out->add({std::move(values), 0, 0, {count}, {1}, dtype, dtype, true});
    return out;
  }

  void set_values(EditedKey& key, DataRef data, Shape shape) {
    const auto row = checkpoint_.tensors[key.tensor];
    const auto device = std::string(checkpoint_.devices[checkpoint_.storages[row.storage].device]);
    TensorView view{row.dtype, kNoIndex, 0, std::move(shape), {}};
    view.made_anew = true;
    view.storage = checkpoint_.add_storage(std::move(data), row.dtype, device);
    checkpoint_.replace(dict_.index, key.entry, view);
  }

  /// What the module at whose weight `place` is says of its own sizes.
  void set_attributes(PlaceId place, const Shape& shape) {
    const ModuleOfWeight module(checkpoint_, place);
    const auto set = [&](std::string_view name, std::int64_t value) {
      if (const auto found = module.attribute(name)) checkpoint_.replace_value(*found, value);
    };
    set("out_features", shape[0]);
    set("out_channels", shape[0]);
    if (edit_.in_features) set("in_features", shape[1]);
  }

  void rename(const std::string& from, const std::string& to) {
    for (auto& key : dict_.keys) {
      if (!key.dropped && key.name.starts_with(from) && key.name[from.size()] == '.')
        key.name.replace(0, from.size(), to);
    }
  }

  const ReplaceHead& edit_;
  Checkpoint& checkpoint_;
  EditedStateDict& dict_;
  StateDictReport& report_;
  std::int64_t classes_ = 0;
};

}  // namespace

Status apply_head(const ReplaceHead& edit, EditContext& context) {
  auto heads = edit.heads;
  if (heads.empty()) {
    CKPT_ASSIGN_OR_RETURN(auto head, find_head(context.checkpoint, context.dicts.front()));
    heads.push_back(std::move(head));
  }
  std::set<std::string> found;
  for (auto& dict : context.dicts) {
    HeadReplacement replacement(edit, context, dict);
    TorchRandom random(edit.seed);
    for (const auto& head : heads) {
      if (!replacement.has(head) && context.dicts.size() > 1) continue;
      CKPT_RETURN_IF_ERROR(replacement.replace(head, random));
      found.insert(head);
    }
  }
  for (const auto& head : heads) {
    if (!found.contains(head))
      return Error(ErrorCode::kNotFound, fmt::format("no state dict has a head {}", quoted(head)));
  }
  return {};
}

}  // namespace ckpt
