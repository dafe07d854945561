// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_dict.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/surroundings.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {

DictMerge::DictMerge(const MergeTensors& edit, EditContext& context, EditedStateDict& dict, Offers& offers,
                     Importer& importer)
    : edit_(edit),
      context_(context),
      base_(context.checkpoint),
      dict_(dict),
      offers_(offers),
      importer_(importer),
      report_(report_of(context.report, dict.root)) {}

Status DictMerge::run() {
  compare_keys();
  CKPT_RETURN_IF_ERROR(check_equal());
  CKPT_RETURN_IF_ERROR(check_matches());
  for (auto& key : dict_.keys) {
    if (key.dropped || key.tensor == kNoIndex) continue;  // an _extra_state stays the base's
    CKPT_RETURN_IF_ERROR(last_with(offers_, key.name) ? take(key) : lonely(key));
  }
  if (edit_.keys == MergeTensors::Keys::kUnion) CKPT_RETURN_IF_ERROR(add_unknown());
  CKPT_RETURN_IF_ERROR(check_mismatches());
  if (edit_.keys == MergeTensors::Keys::kIntersection) drop_lonely();
  report();
  return {};
}

bool DictMerge::all_have(const std::string& name) const {
  return std::all_of(offers_.begin(), offers_.end(),
                     [&](const Offer& offer) { return offer.entries.contains(name); });
}

Shape DictMerge::shape_of(const Checkpoint& checkpoint, const TensorInfo& tensor) const {
  const auto shape = checkpoint.shape(tensor);
  return {shape.begin(), shape.end()};
}

bool DictMerge::fits_or_goes(const EditedKey& key, const Offered& offered) {
  auto theirs = shape_of(offered.checkpoint(), offered.tensor());
  auto ours = shape_of(base_, base_.tensors[key.tensor]);
  if (theirs == ours || edit_.on_shape_mismatch == MergeTensors::OnShapeMismatch::kTakeOther) return true;
  note_mismatch(key.name, std::move(theirs), std::move(ours));
  return false;
}

void DictMerge::note_mismatch(const std::string& name, Shape theirs, Shape ours) {
  mismatched_.push_back({name, std::move(theirs), std::move(ours)});
}

Shape DictMerge::strides_for(const TensorInfo& ours, Dtype dtype, bool fits) const {
  return fits ? strides_in_place_of(base_, ours, dtype) : Shape{};
}

Status DictMerge::check_gradient(const TensorInfo& tensor, Dtype dtype) const {
  if (!tensor.has(kRequiresGrad) || !base_.has_document()) return {};
  const auto obstacle = gradient_obstacle(base_, dtype);
  if (!obstacle) return {};
  return Error(ErrorCode::kUnsupported, fmt::format("tensor {} {}", quoted(tensor.name), *obstacle));
}

std::string DictMerge::device_of(const TensorInfo& ours) const {
  return ours.storage == kNoIndex ? std::string("cpu") : base_.devices[base_.storages[ours.storage].device];
}

Status DictMerge::replace(EditedKey& key, const Offered& offered, Dtype dtype) {
  const auto ours = base_.tensors[key.tensor];  // a copy: the row changes
  const bool fits = shape_of(offered.checkpoint(), offered.tensor()) == shape_of(base_, ours);
  const auto strides = strides_for(ours, dtype, fits);
  CKPT_ASSIGN_OR_RETURN(const auto view,
                        importer_.import(offered, {dict_.root, key.name}, dtype, strides, device_of(ours)));
  base_.replace(dict_.index, key.entry, view);
  ++offered.offer->taken;
  return {};
}

void DictMerge::insert(const std::string& name, const TensorView& view) {
  base_.insert(dict_.index, name, view);
  const auto entry = static_cast<std::uint32_t>(base_.state_dicts[dict_.index].entries.size() - 1);
  const auto row = base_.state_dicts[dict_.index].entries[entry].tensor;
  dict_.keys.push_back({base_.tensors[row].name, name, row, entry, false});
  report_.added.push_back(name);
}

Status DictMerge::add_from(const Offered& offered, const std::string& name, Dtype dtype) {
  const auto& other = offered.checkpoint();
  const auto& theirs = offered.tensor();
  CKPT_RETURN_IF_ERROR(check_gradient(theirs, dtype));
  auto strides = other.strides(theirs);
  if (!dense_order(shape_of(other, theirs), strides)) strides.clear();
  const auto device =
      theirs.storage == kNoIndex ? std::string("cpu") : other.devices[other.storages[theirs.storage].device];
  CKPT_ASSIGN_OR_RETURN(auto view, importer_.import(offered, {dict_.root, name}, dtype, strides, device));
  view.requires_grad = theirs.has(kRequiresGrad);
  insert(name, view);
  ++offered.offer->taken;
  return {};
}

void DictMerge::compare_keys() {
  std::unordered_set<std::string> known;
  for (const auto& key : dict_.keys) {
    if (key.dropped) continue;
    known.insert(key.name);
    if (key.tensor != kNoIndex && !last_with(offers_, key.name)) missing_.push_back(key.name);
  }
  for (const auto& offer : offers_) {
    for (auto& name : keys_of(offer)) {
      if (known.insert(name).second) unexpected_.push_back(std::move(name));
    }
  }
}

Status DictMerge::check_equal() const {
  if (edit_.keys != MergeTensors::Keys::kEqual) return {};
  for (const auto& key : dict_.keys) {
    if (key.dropped || key.tensor == kNoIndex) continue;
    for (const auto& offer : offers_) {
      if (offer.entries.contains(key.name)) continue;
      return Error(ErrorCode::kRefused, fmt::format("the key {} of the base is not in {} (--keys equal)",
                                                    quoted(key.name), quoted(offer.source->file)));
    }
  }
  if (unexpected_.empty()) return {};
  return Error(ErrorCode::kRefused,
               fmt::format("the base has no key {} (--keys equal)", quoted(unexpected_.front())));
}

/// A file of which nothing fits was named by mistake, or its keys have another prefix.
Status DictMerge::check_matches() const {
  std::vector<std::string> ours;
  for (const auto& key : dict_.keys) {
    if (!key.dropped && key.tensor != kNoIndex) ours.push_back(key.name);
  }
  for (const auto& offer : offers_) {
    const bool any =
        std::any_of(ours.begin(), ours.end(), [&](const auto& name) { return offer.entries.contains(name); });
    if (!any && edit_.keys != MergeTensors::Keys::kUnion && !ours.empty())
      return nothing_fits(offer, dict_, ours);
  }
  return {};
}

Status DictMerge::check_mismatches() const {
  if (other_dtype_) return *other_dtype_;
  if (mismatched_.empty() || edit_.on_shape_mismatch != MergeTensors::OnShapeMismatch::kError) return {};
  const auto& first = mismatched_.front();
  auto message = fmt::format(
      "size mismatch for {}: copying a param with shape {} from checkpoint, the shape in current model is "
      "{}.",
      printable(first.name), torch_size(first.in_file), torch_size(first.in_reference));
  const auto more = mismatched_.size() - 1;
  if (more > 0) message += fmt::format(" {} more {} not fit", more, more == 1 ? "does" : "do");
  return Error(ErrorCode::kRefused, std::move(message))
      .with_hint("choose: --on-shape-mismatch keep-base or --on-shape-mismatch take-other");
}

Status DictMerge::add_unknown() {
  for (const auto& name : unexpected_) CKPT_RETURN_IF_ERROR(add(name));
  return {};
}

void DictMerge::drop_lonely() {
  for (auto& key : dict_.keys) {
    if (!key.dropped && key.tensor != kNoIndex && !all_have(key.name)) key.dropped = true;
  }
}

/// Behind what edits before have said.
void DictMerge::report() {
  const auto append = [](const auto& from, auto& to) { to.insert(to.end(), from.begin(), from.end()); };
  append(missing_, report_.missing);
  if (edit_.keys != MergeTensors::Keys::kUnion) append(unexpected_, report_.unexpected);
  append(mismatched_, report_.mismatched);
  for (const auto& offer : offers_) {
    if (!edit_.method || offer.taken > 0) report_.taken.emplace_back(offer.source->file, offer.taken);
  }
}

}  // namespace ckpt
