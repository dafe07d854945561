// SPDX-License-Identifier: BSD-3-Clause
// Tensors of several files become one by a method.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/layer_positions.h"
#include "ckpt/edit/merge_dict.h"
#include "ckpt/edit/merge_jobs.h"
#include "ckpt/edit/merge_methods.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

/// Is the last segment of `key` this one?
bool ends_in(std::string_view key, std::string_view segment) {
  return key.ends_with(segment) &&
         (key.size() == segment.size() || key[key.size() - segment.size() - 1] == '.');
}

bool is_float(Dtype dtype) {
  return dtype_info(dtype).dtype_class == DtypeClass::kFloat;
}

bool is_computed(Dtype dtype) {
  return is_float(dtype) || dtype_info(dtype).dtype_class == DtypeClass::kComplex;
}

/// What a method asks of where an element is in the tensor. Places are those of C order, however it lies.
enum class Places : std::uint8_t {
  kNone,
  kEach,     ///< the place of each; they can come in any order
  kInOrder,  ///< what lies behind what: rows
};

Places places_for(MergeMethod method, const MergeParameters& parameters) {
  switch (method) {
    case MergeMethod::kNuslerp:
      return parameters.flag(MergeParameter::kFlatten) ? Places::kNone : Places::kInOrder;
    case MergeMethod::kModelStock:
      return parameters.flag(MergeParameter::kFilterWise) ? Places::kInOrder : Places::kNone;
    case MergeMethod::kTies:
    case MergeMethod::kDareLinear:
    case MergeMethod::kDareTies:
    case MergeMethod::kBreadcrumbs:
    case MergeMethod::kBreadcrumbsTies:
    case MergeMethod::kSce: return Places::kEach;
    case MergeMethod::kDella:
    case MergeMethod::kDellaLinear:
    case MergeMethod::kArceeFusion: return Places::kInOrder;
    default: return Places::kNone;
  }
}

/// Is a dimension one element, again and again?
bool is_expanded(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  if (tensor.layout != TensorLayout::kStrided || tensor.storage == kNoIndex) return false;
  const auto shape = checkpoint.shape(tensor);
  const auto strides = checkpoint.strides(tensor);
  for (std::size_t axis = 0; axis < strides.size(); ++axis) {
    if (shape[axis] > 1 && strides[axis] == 0) return true;
  }
  return false;
}

/// What is worth a note.
struct Noted {
  std::uint64_t counters = 0;
  std::uint64_t statistics = 0;  ///< layers
  std::uint64_t expanded = 0;    ///< tensors
  std::uint64_t reordered = 0;   ///< tensors
};

using Axes = std::vector<std::size_t>;

class DictMethod final : public DictMerge {
 public:
  DictMethod(const MergeTensors& edit, EditContext& context, EditedStateDict& dict, Offers& offers,
             Importer& importer, MergeJobs& jobs, MergeReport& report, Noted& noted)
      : DictMerge(edit, context, dict, offers, importer),
        recipe_(*edit.method),
        jobs_(jobs),
        merge_report_(report),
        noted_(noted) {
    find_depths();
  }

 private:
  /// Of the keys that the result will have.
  void find_depths() {
    std::vector<std::string_view> names;
    for (const auto& key : dict_.keys) {
      if (!key.dropped) names.push_back(key.name);
    }
    if (edit_.keys == MergeTensors::Keys::kUnion) {
      for (const auto& offer : offers_) {
        for (const auto& entry : offer.entries) names.push_back(entry.first);
      }
    }
    depths_ = layer_positions_by_key(names);
  }

  const MergeMethodInfo& method() const { return merge_method_info(recipe_.method); }

  std::vector<Offered> offered_under(const std::string& name) {
    std::vector<Offered> found;
    for (auto& offer : offers_) {
      if (const auto offered = offered_by(offer, name)) found.push_back(offered);
    }
    return found;
  }

  Status take(EditedKey& key) override {
    const auto offered = offered_under(key.name);
    const auto ours = base_.tensors[key.tensor];  // a copy: the row changes
    if (offered.size() < offers_.size()) {
      if (edit_.keys == MergeTensors::Keys::kIntersection) return {};  // it goes
      if (edit_.keys == MergeTensors::Keys::kBase || offered.size() + 1 < recipe_.least_files()) {
        merge_report_.kept.push_back(key.name);
        return lonely(key);
      }
      merge_report_.fewer.push_back(key.name);
    }
    std::optional<Offered> misfit;
    for (const auto& one : offered) {
      if (shape_of(one.checkpoint(), one.tensor()) == shape_of(base_, ours)) continue;
      if (!fits_or_goes(key, one)) return lonely(key);
      misfit = one;
    }
    if (misfit) {
      const auto theirs = misfit->tensor().dtype;
      return replace(key, *misfit, is_float(theirs) && is_float(ours.dtype) ? dtype_for(ours) : theirs);
    }
    const auto rule = rule_for(key.name);
    if (is_counter(key.name) && !recipe_.integers) ++noted_.counters;
    if (!is_computed(ours.dtype)) {
      ++merge_report_.integers;
      if (rule == IntegerRule::kFirst) return {};
    }
    if (ends_in(key.name, "running_var")) ++noted_.statistics;
    std::vector<PlacedTensor> inputs = {{&base_, ours, {}, 0}};
    for (const auto& one : offered) inputs.push_back(placed(one));
    const auto dtype = dtype_for(ours);
    if (!ours.has(kIsParameter)) CKPT_RETURN_IF_ERROR(check_gradient(ours, dtype));
    TensorView view{dtype, kNoIndex, 0, shape_of(base_, ours), strides_for(ours, dtype, true)};
    if (is_expanded(base_, ours)) ++noted_.expanded;
    CKPT_RETURN_IF_ERROR(merge(key.name, inputs, view, device_of(ours)));
    base_.replace(dict_.index, key.entry, view);
    return {};
  }

  /// What stays gets the output's dtype all the same.
  Status lonely(EditedKey& key) override {
    const auto ours = base_.tensors[key.tensor];
    const auto dtype = dtype_for(ours);
    if (dtype == ours.dtype || ours.layout != TensorLayout::kStrided || ours.storage == kNoIndex ||
        dtype_info(ours.dtype).bits < 8)
      return {};
    if (!ours.has(kIsParameter)) CKPT_RETURN_IF_ERROR(check_gradient(ours, dtype));
    CKPT_ASSIGN_OR_RETURN(const auto view, jobs_.convert({&base_, ours, {}, 0}, {dict_.root, key.name}, dtype,
                                                         device_of(ours)));
    base_.replace(dict_.index, key.entry, view);
    return {};
  }

  /// Around a base there is nothing to change, and one file alone is what it is. Integers have rules of their
  /// own.
  Status add(const std::string& name) override {
    const auto offered = offered_under(name);
    const auto first = offered.front().tensor();  // a copy
    const auto& other = offered.front().checkpoint();
    const auto shape = shape_of(other, first);
    std::vector<PlacedTensor> inputs;
    for (const auto& one : offered) {
      const auto theirs = shape_of(one.checkpoint(), one.tensor());
      if (theirs == shape) {
        inputs.push_back(placed(one));
      } else if (edit_.on_shape_mismatch != MergeTensors::OnShapeMismatch::kTakeOther) {
        note_mismatch(name, theirs, shape);
        return add_alone(offered.front(), name);
      }
    }
    const bool is_integer = !is_computed(first.dtype);
    const std::size_t least = is_integer ? 2 : std::max<std::size_t>(method().least, 2);
    if (inputs.size() < offered.size() || inputs.size() < least || (recipe_.has_base() && !is_integer))
      return add_alone(offered.back(), name);
    if (is_counter(name) && !recipe_.integers) ++noted_.counters;
    if (is_integer) {
      ++merge_report_.integers;
      if (rule_for(name) == IntegerRule::kFirst) return add_alone(offered.front(), name);
    }
    if (offered.size() < offers_.size()) merge_report_.fewer.push_back(name);
    const auto dtype = dtype_for(first);
    TensorView view{
        dtype, kNoIndex, 0, shape, strides_in_place_of(other, first, dtype), first.has(kRequiresGrad)};
    CKPT_RETURN_IF_ERROR(check_gradient(first, dtype));
    CKPT_RETURN_IF_ERROR(merge(name, inputs, view, other.devices[other.storages[first.storage].device]));
    insert(name, view);
    return {};
  }

  /// Into a new storage of `view`, of which all else is known.
  Status merge(const std::string& name, const std::vector<PlacedTensor>& inputs, TensorView& view,
               const std::string& device) {
    auto job = job_for(name, depths_.at(name), inputs);
    job.dtype = view.dtype;
    const bool is_integer = !is_computed(inputs.front().tensor.dtype);
    const auto places = is_integer ? Places::kNone : places_for(recipe_.method, job.parameters);
    if (places == Places::kInOrder && !put_in_order(job, view)) ++noted_.reordered;
    CKPT_ASSIGN_OR_RETURN(view.storage, compute(std::move(job), inputs, view, device, places));
    return {};
  }

  Status add_alone(const Offered& offered, const std::string& name) {
    const auto& theirs = offered.tensor();
    const bool converts = theirs.layout == TensorLayout::kStrided && theirs.storage != kNoIndex;
    return add_from(offered, name, converts ? dtype_for(theirs) : theirs.dtype);
  }

  Dtype dtype_for(const TensorInfo& ours) const {
    return edit_.dtype && is_float(ours.dtype) ? *edit_.dtype : ours.dtype;
  }

  IntegerRule rule_for(std::string_view name) const {
    return recipe_.integers.value_or(is_counter(name) ? IntegerRule::kMax : IntegerRule::kEqual);
  }

  static bool is_counter(std::string_view name) { return ends_in(name, "num_batches_tracked"); }

  static PlacedTensor placed(const Offered& offered) {
    return {&offered.checkpoint(), offered.tensor(), offered.offer->source->file, offered.offer->number + 1U};
  }

  /// Without inputs, shape and dtype. Files that lack the tensor have no weight.
  MergeJob job_for(const std::string& name, double depth, const std::vector<PlacedTensor>& inputs) const {
    const auto files = edit_.sources.size() + 1;
    MergeJob job;
    job.name = name;
    job.method = recipe_.method;
    job.accumulate = recipe_.accumulate;
    job.integers = rule_for(name);
    job.is_counter = is_counter(name) && job.integers == IntegerRule::kMax;
    if (recipe_.has_base()) job.base = 0;
    const auto all = recipe_.parameters_for(name, depth, files);
    job.parameters = all;
    for (const auto parameter : kInputParameters) {
      auto& list = *job.parameters.list(parameter);
      const auto& values = *all.list(parameter);
      if (values.empty()) continue;
      list.clear();
      for (const auto& input : inputs) {
        if (recipe_.has_base() && input.number == 0) continue;
        list.push_back(values[input.number - (recipe_.has_base() ? 1 : 0)]);
      }
    }
    return job;
  }

  Result<StorageId> compute(MergeJob job, const std::vector<PlacedTensor>& inputs, const TensorView& view,
                            const std::string& device, Places places) {
    auto axes = *dense_order(view.shape, view.strides);
    if (places == Places::kInOrder) std::sort(axes.begin(), axes.end());
    for (const auto axis : axes) job.shape.push_back(view.shape[axis]);
    if (places == Places::kEach && !std::is_sorted(axes.begin(), axes.end())) job.axes = axes;
    MergedTensor merged{dict_.root, job.name, 0, {}};
    for (const auto& placed : inputs) {
      CKPT_ASSIGN_OR_RETURN(auto input, jobs_.input(placed, axes));
      job.inputs.push_back(std::move(input));
      merged.files.push_back(placed.number);
    }
    const bool computed = is_computed(job.inputs.front().dtype);
    const auto before = jobs_.source()->jobs().size();
    CKPT_ASSIGN_OR_RETURN(const auto result, jobs_.add(std::move(job), device));
    merged.job = result.second;
    if (computed && merged.job == before) merge_report_.tensors.push_back(std::move(merged));
    if (computed) ++merge_report_.computed;
    return result.first;
  }

  const MergeRecipe& recipe_;
  MergeJobs& jobs_;
  MergeReport& merge_report_;
  Noted& noted_;
  std::unordered_map<std::string, double> depths_;  ///< by key
};

bool matches_any(const NamePattern& pattern, const std::vector<Offers>& offers) {
  for (const auto& dict : offers) {
    for (const auto& offer : dict) {
      for (const auto& entry : offer.entries) {
        if (pattern.matches(entry.first)) return true;
      }
    }
  }
  return false;
}

Status check_dtype(const MergeTensors& edit) {
  if (!edit.dtype || (is_float(*edit.dtype) && dtype_info(*edit.dtype).bits >= 8)) return {};
  return Error(ErrorCode::kUsage, fmt::format("floats can't be merged into {}", dtype_info(*edit.dtype).name))
      .with_hint("--dtype is for a dtype of floats, of a byte or more");
}

void add_notes(const Noted& noted, EditContext& context) {
  auto& notes = context.report.notes;
  if (noted.counters > 0) {
    notes.push_back(fmt::format("{} of batches (num_batches_tracked) {} the largest of all files",
                                counted(noted.counters, "counter"), noted.counters == 1 ? "is" : "are"));
  }
  if (noted.statistics > 0) {
    notes.push_back(fmt::format(
        "running_mean and running_var of {} are merged as weights are, and are not what the merged "
        "model would see: estimate them anew (torch.optim.swa_utils.update_bn)",
        counted(noted.statistics, "layer")));
  }
  if (noted.expanded > 0) {
    notes.push_back(fmt::format(
        "{} written out in full",
        noted.expanded == 1 ? "1 expanded tensor is" : counted(noted.expanded, "expanded tensor") + " are"));
  }
  if (noted.reordered > 0) notes.push_back(reordered_note(noted.reordered));
}

}  // namespace

Status apply_merge_method(const MergeTensors& edit, EditContext& context, std::vector<Offers>& offers) {
  CKPT_RETURN_IF_ERROR(check_dtype(edit));
  for (const auto& setting : edit.method->settings) {
    if (!setting.keys || (edit.keys == MergeTensors::Keys::kUnion && matches_any(*setting.keys, offers)))
      continue;
    CKPT_RETURN_IF_ERROR(require_match(*setting.keys, context));
  }
  const auto parts = static_cast<std::uint32_t>(context.checkpoint.parts.size());
  const auto behind = static_cast<std::uint32_t>(edit.sources.size()) + 1;  // what the importer adds
  Importer importer(context.checkpoint, edit.sources.size(), context.report.merge_casts);
  MergeJobs jobs(context.checkpoint, *edit.method, parts + behind, context.report.merge_casts);
  MergeReport report{*edit.method, {}, {}, 0, 0, {}, {}, jobs.source()};
  for (const auto& source : edit.sources) report.sources.push_back(source.file);
  Noted noted;
  for (std::size_t i = 0; i < offers.size(); ++i) {
    if (offers[i].size() == edit.sources.size()) {
      CKPT_RETURN_IF_ERROR(
          DictMethod(edit, context, context.dicts[i], offers[i], importer, jobs, report, noted).run());
    } else if (!offers[i].empty()) {
      context.report.notes.push_back(
          fmt::format("the state dict at {} stays as it is: not every file has one", at(context.dicts[i])));
    }
  }
  importer.finish(edit.sources);
  jobs.finish();
  add_notes(noted, context);
  context.report.merges.push_back(std::move(report));
  return {};
}

}  // namespace ckpt
