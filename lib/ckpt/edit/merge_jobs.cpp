// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_jobs.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/merge_delivery.h"
#include "ckpt/edit/merge_import.h"
#include "ckpt/edit/storage_bytes.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

std::optional<double> least_cosine(const MergeRecipe& recipe) {
  if (recipe.allow_unrelated) return std::nullopt;
  return kLeastRelatedCosine;
}

Error unsupported(const PlacedTensor& placed, const std::string& why) {
  return Error(ErrorCode::kUnsupported, fmt::format("tensor {}{}", quoted(placed.tensor.name), why))
      .in_file(std::string(placed.file));
}

}  // namespace

bool put_in_order(MergeJob& job, TensorView& view) {
  if (view.strides.empty() || is_c_order(view.shape, view.strides)) return true;
  job.order = *dense_order(view.shape, view.strides);
  if (can_deliver(view.shape, job.order, dtype_info(job.dtype).item_size)) return true;
  job.order.clear();
  view.strides.clear();
  return false;
}

std::string reordered_note(std::uint64_t tensors) {
  return fmt::format("{} {} the strides of C order, which the method counts in", counted(tensors, "tensor"),
                     tensors == 1 ? "gets" : "get");
}

MergeJobs::MergeJobs(Checkpoint& base, const MergeRecipe& recipe, std::uint32_t part,
                     std::vector<CastValues>& casts)
    : base_(base),
      part_(part),
      casts_(casts),
      merged_(std::make_shared<MergedSource>("merged tensors", least_cosine(recipe))) {}

/// Whatever the bytes' order and signs are: those are left to who reads it.
Result<Gather> MergeJobs::view(const PlacedTensor& placed, const std::vector<std::size_t>& axes) const {
  const auto& tensor = placed.tensor;
  if (tensor.layout != TensorLayout::kStrided || tensor.storage == kNoIndex) {
    return unsupported(placed, fmt::format(" is of layout {}: only strided tensors can be merged",
                                           tensor_layout_name(tensor.layout)));
  }
  if (dtype_info(tensor.dtype).bits < 8)
    return unsupported(placed, " has values of less than a byte, which can't be merged");
  auto data = data_of(*placed.checkpoint, tensor.storage);
  if (!data.ok()) return unsupported(placed, ": " + data.error().message());
  const auto place = source_of(*placed.checkpoint, *data);
  const auto shape = placed.checkpoint->shape(tensor);
  const auto strides = placed.checkpoint->strides(tensor);
  Gather gather{place.source, place.offset, tensor.offset, {}, {}, tensor.dtype, tensor.dtype};
  for (const auto axis : axes) {
    gather.shape.push_back(shape[axis]);
    gather.strides.push_back(strides[axis]);
  }
  gather.swapped = has_turned_bytes(*placed.checkpoint, tensor);
  gather.lazy = lazy_bits_of(tensor);
  return gather;
}

Result<MergeInput> MergeJobs::input(const PlacedTensor& placed, const std::vector<std::size_t>& axes) {
  CKPT_ASSIGN_OR_RETURN(auto gather, view(placed, axes));
  const auto& tensor = placed.tensor;
  MergeInput input;
  input.dtype = tensor.dtype;
  input.swapped = gather.swapped;
  input.lazy = lazy_bits_of(tensor);
  input.file = placed.number;
  if (is_c_order(gather.shape, gather.strides)) {
    input.source = gather.source;
    input.offset = gather.storage + gather.offset * dtype_info(tensor.dtype).item_size;
    return input;
  }
  const auto key = view_key(placed, gather);
  auto known = gathered_.find(key);
  gather.swapped = false;  // the job turns them, and their signs
  gather.lazy = {};
  auto& views = views_[placed.number];
  if (views == nullptr) views = std::make_shared<GatheredSource>(gather.source->name());
  if (known == gathered_.end()) known = gathered_.emplace(key, views->add(std::move(gather))).first;
  input.source = views;
  input.offset = known->second.offset;
  return input;
}

Result<MergeInput> MergeJobs::transposed(const PlacedTensor& placed) {
  return input(placed, {1, 0});
}

Result<std::pair<StorageId, std::size_t>> MergeJobs::add(MergeJob job, std::string_view device) {
  job.result_swapped = takes_turned_bytes(base_, job.dtype);
  CKPT_RETURN_IF_ERROR(check_merge_job(job));
  const auto key = key_of(job, device);
  const auto known = results_.find(key);
  if (known != results_.end() && job.numel() > 0) return known->second;
  const auto dtype = job.dtype;
  const auto number = merged_->jobs().size();
  const auto extent = merged_->add(std::move(job));
  const auto storage = base_.add_storage({part_, extent, {}, {}}, dtype, device);
  return results_.insert_or_assign(key, std::pair(storage, number)).first->second;
}

Result<TensorView> MergeJobs::convert(const PlacedTensor& placed, CastKey name, Dtype dtype,
                                      std::string_view device) {
  const auto& tensor = placed.tensor;
  const auto sizes = placed.checkpoint->shape(tensor);
  TensorView result{dtype, kNoIndex, 0, Shape(sizes.begin(), sizes.end()),
                    strides_in_place_of(*placed.checkpoint, tensor, dtype)};
  CKPT_ASSIGN_OR_RETURN(auto gather, view(placed, *dense_order(result.shape, result.strides)));
  gather.to = dtype;
  gather.result_swapped = takes_turned_bytes(base_, dtype);
  Shape shape;
  Shape strides;
  for (std::size_t i = 0; i < gather.shape.size(); ++i) {
    if (gather.shape[i] == 1) continue;  // may stand anywhere
    shape.push_back(gather.shape[i]);
    strides.push_back(gather.strides[i]);
  }
  const ViewKey key{placed.checkpoint, tensor.storage,     tensor.offset,
                    std::move(shape),  std::move(strides), tensor.dtype};
  const auto [known, is_new] =
      conversions_.try_emplace({key, gather.lazy.negative, dtype, std::string(device)});
  auto& made = known->second;
  if (is_new) {
    made.cast = casts_.watch(gather, std::move(name));
    made.storage = base_.add_storage({part_ + 1, converted_->add(std::move(gather)), {}, {}}, dtype, device);
  } else {
    casts_.share(made.cast, std::move(name));
  }
  result.storage = made.storage;
  return result;
}

void MergeJobs::finish() {
  base_.parts.push_back({merged_, {}, {}});
  base_.parts.push_back({converted_, {}, {}});
}

MergeJobs::ViewKey MergeJobs::view_key(const PlacedTensor& placed, const Gather& gather) {
  const auto& tensor = placed.tensor;
  return {placed.checkpoint, tensor.storage, tensor.offset, gather.shape, gather.strides, tensor.dtype};
}

MergeJobs::JobKey MergeJobs::key_of(const MergeJob& job, std::string_view device) {
  std::vector<std::tuple<const ByteSource*, std::uint64_t, Dtype, unsigned>> inputs;
  for (const auto& input : job.inputs) {
    const auto flags =
        (input.swapped ? 1U : 0U) | (input.lazy.negative ? 2U : 0U) | (input.lazy.conjugate ? 4U : 0U);
    inputs.emplace_back(input.source.get(), input.offset, input.dtype, flags);
  }
  std::vector<std::uint64_t> told = {static_cast<std::uint64_t>(job.integers)};
  told.insert(told.end(), job.order.begin(), job.order.end());
  told.insert(told.end(), job.axes.begin(), job.axes.end());
  const auto tell = [&](const auto& values) {
    for (const double value : values) told.push_back(std::bit_cast<std::uint64_t>(value));
  };
  for (const auto parameter : kInputParameters) tell(*job.parameters.list(parameter));
  tell(job.parameters.values);
  return {std::move(inputs), job.shape, std::move(told), job.dtype, std::string(device)};
}

}  // namespace ckpt
