// SPDX-License-Identifier: BSD-3-Clause
// Adapters (LoRA) as PEFT writes them, added to the weights that they are made for: W + alpha / r · B·A.
// Kernels of convolutions are matrices whose columns are all that stands behind the first dimension.
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/adapter_config.h"
#include "ckpt/edit/layer_positions.h"
#include "ckpt/edit/merge_import.h"
#include "ckpt/edit/merge_jobs.h"
#include "ckpt/edit/merge_methods.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

/// What a key of an adapter's file is.
struct AdapterKey {
  enum class Part : std::uint8_t { kA, kB, kWhole };

  std::string module;  ///< of the model; the whole key for kWhole
  Part part = Part::kWhole;
  bool of_embedding = false;
};

/// "X.lora_A.weight", "X.lora_A.default.weight", "X.lora_embedding_A"; PEFT puts "base_model.model." in
/// front. Errors: kUnsupported for parts of adapters that are no products of two matrices.
Result<AdapterKey> parse_key(std::string_view key) {
  constexpr std::string_view kPrefix = "base_model.model.";
  constexpr std::string_view kSaved = ".modules_to_save.";
  constexpr std::string_view kAdapted = ".base_layer.";
  auto name = key;
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  const auto at = name.find(".lora_");
  if (at == name.npos) {
    AdapterKey whole{std::string(name)};
    if (const auto adapted = name.find(kAdapted); adapted != name.npos)
      whole.module.erase(adapted, kAdapted.size() - 1);
    if (const auto saved = name.find(kSaved); saved != name.npos) {
      const auto rest = name.find('.', saved + kSaved.size());
      if (rest != name.npos)
        whole.module = std::string(name.substr(0, saved)) + std::string(name.substr(rest));
    }
    return whole;
  }
  const auto rest = name.substr(at + 1);
  const auto word = rest.substr(0, rest.find('.'));
  AdapterKey adapter{std::string(name.substr(0, at))};
  adapter.of_embedding = word == "lora_embedding_A" || word == "lora_embedding_B";
  const bool known =
      adapter.of_embedding || ((word == "lora_A" || word == "lora_B") && rest.ends_with(".weight"));
  if (!known) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("{} is no factor of a product: of adapters only lora_A and "
                             "lora_B are merged, and lora_embedding_A and _B",
                             quoted(key)));
  }
  adapter.part = word.ends_with("_A") ? AdapterKey::Part::kA : AdapterKey::Part::kB;
  return adapter;
}

/// The two factors of one module in one file.
struct Factors {
  std::optional<std::uint32_t> a;  ///< entries of the offer
  std::optional<std::uint32_t> b;
  bool of_embedding = false;
};

/// A file of an adapter, taken apart.
struct Adapter {
  Offer* offer = nullptr;
  AdapterConfig config;
  std::map<std::string, Factors> modules;
  std::map<std::string, std::uint32_t> whole;  ///< tensors that were trained besides, by key

  PlacedTensor placed(std::uint32_t entry) const {
    return {&offer->checkpoint(), offer->checkpoint().tensors[offer->tensor(entry)], offer->source->file,
            offer->number + 1U};
  }
};

Result<Adapter> take_apart(Offer& offer) {
  Adapter adapter{&offer, {}, {}, {}};
  if (offer.source->adapter_config) {
    auto config = parse_adapter_config(*offer.source->adapter_config);
    if (!config.ok()) {
      return Error(config.error().code(),
                   fmt::format("its adapter_config.json: {}", config.error().message()));
    }
    adapter.config = *std::move(config);
  }
  for (const auto& [name, entry] : offer.entries) {
    CKPT_ASSIGN_OR_RETURN(const auto key, parse_key(name));
    if (key.part == AdapterKey::Part::kWhole) {
      adapter.whole[key.module] = entry;
      continue;
    }
    auto& factors = adapter.modules[key.module];
    auto& factor = key.part == AdapterKey::Part::kA ? factors.a : factors.b;
    if (factor) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("holds more than one adapter for {}", quoted(key.module)));
    }
    factor = entry;
    factors.of_embedding = key.of_embedding;
  }
  for (const auto& [module, factors] : adapter.modules) {
    if (factors.a && factors.b) continue;
    return Error(ErrorCode::kNotFound,
                 fmt::format("{} of {} is missing", factors.a ? "lora_B" : "lora_A", quoted(module)));
  }
  if (adapter.modules.empty()) {
    return Error(ErrorCode::kNotFound, "holds no adapter: none of its keys has lora_A or lora_B in it");
  }
  return adapter;
}

class DictAdapters {
 public:
  DictAdapters(const MergeTensors& edit, EditContext& context, EditedStateDict& dict, Importer& importer,
               MergeJobs& jobs, MergeReport& report)
      : edit_(edit),
        base_(context.checkpoint),
        dict_(dict),
        importer_(importer),
        jobs_(jobs),
        merge_report_(report),
        report_(report_of(context.report, dict.root)) {
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < dict.keys.size(); ++i) {
      const auto& key = dict.keys[i];
      if (key.dropped) continue;
      names.push_back(key.name);
      if (key.tensor == kNoIndex) continue;
      keys_.emplace(key.name, i);
      const auto& tensor = base_.tensors[key.tensor];
      if (tensor.storage != kNoIndex) views_[view_of(tensor)].push_back(i);
    }
    depths_ = layer_positions_by_key(names);
  }

  Status run(const std::vector<Adapter>& adapters) {
    std::map<std::size_t, std::vector<const Adapter*>> of_key;  // in the order of the base
    for (const auto& adapter : adapters) {
      for (const auto& [module, factors] : adapter.modules) {
        CKPT_ASSIGN_OR_RETURN(const auto key, find(adapter, module + ".weight"));
        of_key[key].push_back(&adapter);
      }
      for (const auto& [name, entry] : adapter.whole) {
        CKPT_ASSIGN_OR_RETURN(const auto key, find(adapter, name));
        CKPT_RETURN_IF_ERROR(check_whole(adapter, key, entry));
        whole_[key] = adapter.placed(entry);
        const bool is_adapted = name.ends_with(".weight") && adapter.modules.contains(module_of(name));
        if (!is_adapted) CKPT_RETURN_IF_ERROR(replace(adapter, key, entry));
      }
    }
    for (const auto& [key, several] : of_key) CKPT_RETURN_IF_ERROR(merge(key, several));
    for (const auto& key : dict_.keys) CKPT_RETURN_IF_ERROR(cast(key));
    for (const auto& adapter : adapters) {
      if (adapter.offer->taken > 0)
        report_.taken.emplace_back(adapter.offer->source->file, adapter.offer->taken);
    }
    return {};
  }

  /// Results that could not lie as the base does.
  std::uint64_t reordered() const { return reordered_; }

 private:
  using ViewKey = std::tuple<StorageId, std::uint64_t, Shape, Shape>;

  ViewKey view_of(const TensorInfo& tensor) const {
    const auto shape = base_.shape(tensor);
    return {tensor.storage, tensor.offset, Shape(shape.begin(), shape.end()), base_.strides(tensor)};
  }

  Error in_file(const Adapter& adapter, ErrorCode code, std::string message) const {
    return Error(code, std::move(message)).in_file(adapter.offer->source->file);
  }

  Result<std::size_t> find(const Adapter& adapter, const std::string& name) const {
    const auto found = keys_.find(name);
    if (found != keys_.end()) return found->second;
    std::vector<std::string> names;
    for (const auto& [known, key] : keys_) names.push_back(known);
    const auto near = nearest(name, names);
    auto error =
        in_file(adapter, ErrorCode::kNotFound,
                fmt::format("it adapts {}, which the base does not have at {}", quoted(name), at(dict_)));
    if (near.empty()) return error;
    return std::move(error).with_hint(fmt::format("did you mean {}?", quoted(near)));
  }

  static std::string module_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

  Status check_whole(const Adapter& adapter, std::size_t index, std::uint32_t entry) const {
    const auto& key = dict_.keys[index];
    const auto theirs = adapter.placed(entry);
    const auto our_shape = base_.shape(base_.tensors[key.tensor]);
    const auto their_shape = theirs.checkpoint->shape(theirs.tensor);
    if (std::equal(our_shape.begin(), our_shape.end(), their_shape.begin(), their_shape.end())) return {};
    return in_file(adapter, ErrorCode::kRefused,
                   fmt::format("size mismatch for {}: {} in the adapter, {} in the base", printable(key.name),
                               torch_size(their_shape), torch_size(our_shape)));
  }

  /// By a tensor that was trained as a whole, beside the adapter.
  Status replace(const Adapter& adapter, std::size_t index, std::uint32_t entry) {
    auto& key = dict_.keys[index];
    const auto ours = base_.tensors[key.tensor];
    const auto dtype = dtype_for(ours);
    const auto strides = strides_in_place_of(base_, ours, dtype);
    CKPT_ASSIGN_OR_RETURN(const auto view, importer_.import({adapter.offer, entry}, {dict_.root, key.name},
                                                            dtype, strides, device_of(ours)));
    base_.replace(dict_.index, key.entry, view);
    ++adapter.offer->taken;
    return {};
  }

  /// What no adapter touches gets the output's dtype all the same.
  Status cast(const EditedKey& key) {
    if (key.dropped || key.tensor == kNoIndex) return {};
    const auto ours = base_.tensors[key.tensor];  // a copy: the row changes
    const auto dtype = dtype_for(ours);
    if (dtype == ours.dtype || ours.layout != TensorLayout::kStrided || ours.storage == kNoIndex) return {};
    CKPT_ASSIGN_OR_RETURN(const auto view, jobs_.convert({&base_, ours, {}, 0}, {dict_.root, key.name}, dtype,
                                                         device_of(ours)));
    base_.replace(dict_.index, key.entry, view);
    return {};
  }

  /// All keys that show the weight get the sum: it is one parameter.
  Status merge(std::size_t index, const std::vector<const Adapter*>& adapters) {
    const auto& key = dict_.keys[index];
    const auto ours = base_.tensors[key.tensor];
    const auto shape = base_.shape(ours);
    if (shape.size() < 2) {
      return in_file(*adapters.front(), ErrorCode::kUnsupported,
                     fmt::format("it adapts {}, which is no matrix", quoted(key.name)));
    }
    MergeJob job;
    job.name = key.name;
    job.method = MergeMethod::kLora;
    job.accumulate = edit_.method->accumulate;
    job.dtype = dtype_for(ours);
    job.base = 0;
    job.shape.assign(shape.begin(), shape.end());
    job.parameters = edit_.method->parameters_for(key.name, depths_.at(key.name), edit_.sources.size() + 1);
    const auto weights = std::exchange(job.parameters.weights, {});
    const auto whole = whole_.find(index);  // the adapter has the weight itself, too
    const auto placed = whole == whole_.end() ? PlacedTensor{&base_, ours, {}, 0} : whole->second;
    CKPT_ASSIGN_OR_RETURN(auto base, jobs_.input(placed, all_axes(shape.size())));
    job.inputs.push_back(std::move(base));
    MergedTensor merged{dict_.root, key.name, 0, {0}};
    const auto module = key.name.substr(0, key.name.size() - std::string_view(".weight").size());
    for (const auto* adapter : adapters) {
      CKPT_RETURN_IF_ERROR(add_factors(*adapter, module, weights[adapter->offer->number], job));
      merged.files.push_back(adapter->offer->number + 1U);
    }
    job.parameters[MergeParameter::kR] = 1;  // the weights have the whole scale
    job.parameters[MergeParameter::kAlpha] = 1;
    job.parameters[MergeParameter::kRankStabilized] = 0;
    TensorView view{job.dtype, kNoIndex, 0, job.shape, strides_in_place_of(base_, ours, job.dtype)};
    if (!put_in_order(job, view)) ++reordered_;
    CKPT_ASSIGN_OR_RETURN(const auto result, jobs_.add(std::move(job), device_of(ours)));
    view.storage = result.first;
    merged.job = result.second;
    for (const auto tied : views_.at(view_of(ours))) {
      if (keys_merged_.contains(tied)) {
        return in_file(*adapters.front(), ErrorCode::kUnsupported,
                       fmt::format("{} and {} are one tensor in the base, and both are adapted",
                                   quoted(key.name), quoted(dict_.keys[tied].name)));
      }
      keys_merged_[tied] = true;
    }
    for (const auto tied : std::vector<std::size_t>(views_.at(view_of(ours))))
      base_.replace(dict_.index, dict_.keys[tied].entry, view);
    ++merge_report_.computed;
    merge_report_.tensors.push_back(std::move(merged));
    return {};
  }

  /// A, then B, so that their product lies as the weight does.
  Status add_factors(const Adapter& adapter, const std::string& module, double weight, MergeJob& job) {
    const auto& factors = adapter.modules.at(module);
    const auto a = adapter.placed(*factors.a);
    const auto b = adapter.placed(*factors.b);
    const auto a_shape = a.checkpoint->shape(a.tensor);
    const auto b_shape = b.checkpoint->shape(b.tensor);
    if (a_shape.empty() || b_shape.size() < 2 || a_shape[0] != b_shape[1] || a_shape[0] == 0) {
      return in_file(adapter, ErrorCode::kUnsupported,
                     fmt::format("lora_A and lora_B of {} don't fit: {} and {}", quoted(module),
                                 torch_size(a_shape), torch_size(b_shape)));
    }
    const auto rank = a_shape[0];
    const auto inner = static_cast<std::int64_t>(a.checkpoint->numel(a.tensor)) / rank;
    const auto outer = static_cast<std::int64_t>(b.checkpoint->numel(b.tensor)) / rank;
    const auto rows = job.shape[0];
    const auto columns = rows == 0 ? 0 : static_cast<std::int64_t>(job.numel()) / rows;
    const bool is_matrix = job.shape.size() == 2 && a_shape.size() == 2 && b_shape.size() == 2;
    const bool straight = outer == rows && inner == columns && b_shape[0] == outer;
    const bool turned = is_matrix && inner == rows && outer == columns;
    const bool turns = turned && (!straight || factors.of_embedding || adapter.config.fan_in_fan_out);
    if (!straight && !turned) {
      return in_file(
          adapter, ErrorCode::kRefused,
          fmt::format("size mismatch for {}: the product of lora_B and lora_A is {} x {}, the weight {}",
                      printable(module), outer, inner, torch_size(job.shape)));
    }
    CKPT_ASSIGN_OR_RETURN(auto first, turns ? jobs_.transposed(b) : jobs_.input(a, all_axes(a_shape.size())));
    CKPT_ASSIGN_OR_RETURN(auto second,
                          turns ? jobs_.transposed(a) : jobs_.input(b, all_axes(b_shape.size())));
    job.inputs.push_back(std::move(first));
    job.inputs.push_back(std::move(second));
    job.ranks.push_back(static_cast<std::uint64_t>(rank));
    CKPT_ASSIGN_OR_RETURN(const auto scale,
                          scale_of(adapter, module, static_cast<double>(rank), job.parameters));
    job.parameters.weights.push_back(weight * scale);
    return {};
  }

  /// What the command line says counts before the adapter's own file.
  Result<double> scale_of(const Adapter& adapter, const std::string& module, double rank,
                          const MergeParameters& told) const {
    const auto said = [&](MergeParameter parameter) -> std::optional<double> {
      const auto value = told[parameter];
      return std::isnan(value) ? std::nullopt : std::optional<double>(value);
    };
    const auto from_file = adapter.config.alpha_of(module);
    const auto alpha = said(MergeParameter::kAlpha);
    if (!alpha && !from_file) {
      return in_file(adapter, ErrorCode::kUsage,
                     fmt::format("nothing says how much it counts: {}",
                                 adapter.offer->source->adapter_config
                                     ? "its adapter_config.json has no lora_alpha"
                                     : "there is no adapter_config.json beside it"))
          .with_hint("give its alpha: --param alpha=VALUE");
    }
    const auto r = said(MergeParameter::kR).value_or(rank);
    const bool root = said(MergeParameter::kRankStabilized).value_or(adapter.config.rank_stabilized) != 0;
    return alpha.value_or(from_file.value_or(0)) / (root ? std::sqrt(r) : r);
  }

  Dtype dtype_for(const TensorInfo& ours) const {
    const bool is_float = dtype_info(ours.dtype).dtype_class == DtypeClass::kFloat;
    return edit_.dtype && is_float ? *edit_.dtype : ours.dtype;
  }

  std::string device_of(const TensorInfo& ours) const {
    return ours.storage == kNoIndex ? std::string("cpu") : base_.devices[base_.storages[ours.storage].device];
  }

  static std::vector<std::size_t> all_axes(std::size_t rank) {
    std::vector<std::size_t> axes(rank);
    for (std::size_t i = 0; i < rank; ++i) axes[i] = i;
    return axes;
  }

  const MergeTensors& edit_;
  Checkpoint& base_;
  EditedStateDict& dict_;
  Importer& importer_;
  MergeJobs& jobs_;
  MergeReport& merge_report_;
  StateDictReport& report_;
  std::unordered_map<std::string, double> depths_;     ///< by key
  std::unordered_map<std::string, std::size_t> keys_;  ///< of tensors, by name
  std::map<ViewKey, std::vector<std::size_t>> views_;  ///< keys that show one
  std::map<std::size_t, PlacedTensor> whole_;          ///< from the adapters, by key
  std::map<std::size_t, bool> keys_merged_;
  std::uint64_t reordered_ = 0;
};

}  // namespace

Status apply_merge_adapters(const MergeTensors& edit, EditContext& context) {
  if (edit.keys != MergeTensors::Keys::kBase)
    return Error(ErrorCode::kUsage, "the keys of adapters are not those of the base: --keys has no meaning");
  for (const auto& setting : edit.method->settings) {
    if (setting.keys) CKPT_RETURN_IF_ERROR(require_match(*setting.keys, context));
  }
  CKPT_ASSIGN_OR_RETURN(auto offers, pair_sources(edit, context));
  const auto parts = static_cast<std::uint32_t>(context.checkpoint.parts.size());
  Importer importer(context.checkpoint, edit.sources.size(), context.report.merge_casts);
  MergeJobs jobs(context.checkpoint, *edit.method,
                 parts + static_cast<std::uint32_t>(edit.sources.size()) + 1, context.report.merge_casts);
  MergeReport report{*edit.method, {}, {}, 0, 0, {}, {}, jobs.source()};
  for (const auto& source : edit.sources) report.sources.push_back(source.file);
  std::uint64_t reordered = 0;
  for (std::size_t i = 0; i < offers.size(); ++i) {
    std::vector<Adapter> adapters;
    for (auto& offer : offers[i]) {
      auto adapter = take_apart(offer);
      if (!adapter.ok()) return std::move(adapter).error().in_file(offer.source->file);
      adapters.push_back(std::move(adapter).value());
    }
    if (adapters.empty()) continue;
    DictAdapters merge(edit, context, context.dicts[i], importer, jobs, report);
    CKPT_RETURN_IF_ERROR(merge.run(adapters));
    reordered += merge.reordered();
  }
  importer.finish(edit.sources);
  jobs.finish();
  if (reordered > 0) context.report.notes.push_back(reordered_note(reordered));
  context.report.merges.push_back(std::move(report));
  return {};
}

}  // namespace ckpt
