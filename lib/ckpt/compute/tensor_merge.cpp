// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/tensor_merge.h"

#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "ckpt/compute/merge_fusion.h"
#include "ckpt/compute/merge_integers.h"
#include "ckpt/compute/merge_linear.h"
#include "ckpt/compute/merge_lora.h"
#include "ckpt/compute/merge_select.h"
#include "ckpt/compute/merge_sparse.h"
#include "ckpt/compute/merge_sphere.h"

namespace ckpt {
namespace {

bool is_float(Dtype dtype) {
  const auto& info = dtype_info(dtype);
  return info.dtype_class == DtypeClass::kFloat && info.bits >= 8;
}

bool is_complex(Dtype dtype) {
  return dtype_info(dtype).dtype_class == DtypeClass::kComplex;
}

/// Does the method mean anything for real and imaginary parts as so many numbers?
bool takes_complex(MergeMethod method) {
  switch (method) {
    case MergeMethod::kMean:
    case MergeMethod::kLinear:
    case MergeMethod::kSlerp:
    case MergeMethod::kMultislerp:
    case MergeMethod::kKarcher:
    case MergeMethod::kTaskArithmetic:
    case MergeMethod::kAddDifference:
    case MergeMethod::kWeightedSubtraction:
    case MergeMethod::kSumTwice:
    case MergeMethod::kTripleSum: return true;
    default: return false;
  }
}

Error unsupported(const MergeJob& job, const std::string& what) {
  return {ErrorCode::kUnsupported, fmt::format("tensor '{}': {}", job.name, what)};
}

Error usage(const MergeJob& job, const std::string& what) {
  return {ErrorCode::kUsage, fmt::format("tensor '{}': {}", job.name, what)};
}

Status check_dtypes(const MergeJob& job) {
  const auto name = [](Dtype dtype) { return dtype_info(dtype).name; };
  const auto first = job.inputs.front().dtype;
  const bool of_floats = is_float(first);
  const bool of_complex = is_complex(first);
  for (const auto& input : job.inputs) {
    const bool alike = of_floats    ? is_float(input.dtype)
                       : of_complex ? is_complex(input.dtype)
                                    : input.dtype == first;
    if (!alike)
      return unsupported(job, fmt::format("{} and {} can't be merged", name(first), name(input.dtype)));
  }
  const bool result_alike = of_floats    ? is_float(job.dtype)
                            : of_complex ? is_complex(job.dtype)
                                         : job.dtype == first;
  if (!result_alike) return unsupported(job, fmt::format("{} can't become {}", name(first), name(job.dtype)));
  if (of_complex && !takes_complex(job.method))
    return unsupported(job,
                       fmt::format("{} does not take {}", merge_method_info(job.method).name, name(first)));
  if (of_floats || of_complex) return {};
  const auto kind = dtype_info(first).dtype_class;
  const bool is_number = kind == DtypeClass::kInteger || kind == DtypeClass::kBool;
  const bool is_counted = job.integers == IntegerRule::kMax || job.integers == IntegerRule::kSum;
  if (is_counted && !is_number)
    return unsupported(job, fmt::format("{} has neither maximum nor sum", name(first)));
  return {};
}

Status check_inputs(const MergeJob& job) {
  const auto& info = merge_method_info(job.method);
  const auto inputs = job.inputs.size();
  if (job.method == MergeMethod::kLora) {
    if (inputs % 2 == 0 || job.ranks.size() != inputs / 2 || job.base != 0U)
      return usage(job, "lora takes a tensor, which is the base, then A and B of each adapter");
    if (job.shape.size() < 2)
      return unsupported(job,
                         fmt::format("lora changes tensors of two dimensions, not {}", job.shape.size()));
    for (const auto rank : job.ranks) {
      if (rank == 0) return unsupported(job, "an adapter of rank 0");
    }
  }
  const auto least = info.least - (info.base == MergeBase::kOptional && !job.base && info.least > 2 ? 1 : 0);
  const auto most =
      info.base == MergeBase::kOptional && !job.base && info.most > 0 ? info.most - 1 : info.most;
  const auto needed = info.base == MergeBase::kOptional && job.base ? least + 1 : least;
  if (inputs < needed || (most > 0 && inputs > most))
    return usage(job, fmt::format("{} can't merge {} tensor{}", info.name, inputs, inputs == 1 ? "" : "s"));
  if (info.base == MergeBase::kRequired && !job.base)
    return usage(job, fmt::format("{} needs a base", info.name));
  if (info.base == MergeBase::kNone && job.base && *job.base >= inputs) return usage(job, "no such base");
  return {};
}

Status check_parameters(const MergeJob& job) {
  const auto& info = merge_method_info(job.method);
  const auto& parameters = job.parameters;
  const auto counting = job.method == MergeMethod::kLora
                            ? (job.inputs.size() - 1) / 2
                            : info.counting(job.inputs.size(), job.base.has_value());
  for (const auto& setting : info.settings) {
    const auto& row = merge_parameter_info(setting.parameter);
    const auto check = [&](double value) -> Status {
      const bool from_files = setting.preset && std::isnan(*setting.preset);
      if (from_files && std::isnan(value)) return {};
      if (std::isnan(value)) return usage(job, fmt::format("{} needs '{}'", info.name, row.name));
      if (value >= row.least && value <= row.most) return {};
      return usage(job, fmt::format("{} {} is not between {} and {}", row.name, value, row.least, row.most));
    };
    const auto* list = parameters.list(setting.parameter);
    if (list != nullptr && (!list->empty() || setting.parameter == MergeParameter::kWeight)) {
      if (list->size() != counting)
        return usage(job, fmt::format("{} values of '{}' for {} tensors", list->size(), row.name, counting));
      for (const auto value : *list) CKPT_RETURN_IF_ERROR(check(value));
    } else if (setting.parameter != MergeParameter::kDensity) {
      CKPT_RETURN_IF_ERROR(check(parameters[setting.parameter]));
    }
  }
  const auto sum = std::accumulate(parameters.weights.begin(), parameters.weights.end(), 0.0);
  const bool divides =
      (job.method == MergeMethod::kLinear && parameters.flag(MergeParameter::kNormalize)) ||
      (job.method == MergeMethod::kMultislerp && parameters.flag(MergeParameter::kNormalizeWeights));
  if (divides && sum == 0) return usage(job, "the weights add up to 0, so they can't be normalized");
  if (job.method == MergeMethod::kWeightedSubtraction &&
      parameters[MergeParameter::kAlpha] * parameters[MergeParameter::kBeta] == 1)
    return usage(job, "alpha x beta is 1, which nothing can be divided by the rest of");
  if (info.has(MergeParameter::kEpsilon) && info.has(MergeParameter::kDensity)) {
    for (std::size_t i = 0; i < parameters.densities.size(); ++i) {
      const auto density = parameters.densities[i];
      const auto epsilon = parameters.epsilon(i);
      if (density >= 1 || density <= 0 || (density - epsilon > 0 && density + epsilon < 1)) continue;
      return usage(job,
                   fmt::format("density {} with epsilon {} leaves the range from 0 to 1", density, epsilon));
    }
  }
  return {};
}

}  // namespace

void OrderedSums::add(std::uint64_t chunk, std::span<const double> more) {
  const std::lock_guard lock(mutex_);
  const auto take = [&](std::span<const double> values) {
    for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] += values[i];
    ++next_;
  };
  if (chunk != next_) {
    waiting_.emplace(chunk, std::vector<double>(more.begin(), more.end()));
    return;
  }
  take(more);
  for (auto first = waiting_.begin(); first != waiting_.end() && first->first == next_;
       first = waiting_.erase(first))
    take(first->second);
}

std::uint64_t TensorMerge::chunk_at(std::uint64_t offset) const {
  std::uint64_t low = 0;
  std::uint64_t high = chunks();
  while (high - low > 1) {
    const auto middle = low + (high - low) / 2;
    (chunk(middle).offset <= offset ? low : high) = middle;
  }
  return low;
}

Status check_merge_job(const MergeJob& job) {
  CKPT_RETURN_IF_ERROR(check_dtypes(job));
  const auto first = job.inputs.front().dtype;
  if (!is_float(first) && !is_complex(first)) return {};
  CKPT_RETURN_IF_ERROR(check_inputs(job));
  return check_parameters(job);
}

Result<std::unique_ptr<TensorMerge>> make_tensor_merge(const MergeJob& job, VectorUnit unit) {
  const auto first = job.inputs.front().dtype;
  if (!is_float(first) && !is_complex(first)) return make_integer_merge(job);
  if (job.is_counter) return make_counter_merge(job, unit);
  switch (job.method) {
    case MergeMethod::kSlerp:
    case MergeMethod::kNuslerp:
    case MergeMethod::kMultislerp:
    case MergeMethod::kKarcher:
    case MergeMethod::kModelStock: return make_sphere_merge(job, unit);
    case MergeMethod::kTies:
    case MergeMethod::kDareLinear:
    case MergeMethod::kDareTies:
    case MergeMethod::kDella:
    case MergeMethod::kDellaLinear:
    case MergeMethod::kBreadcrumbs:
    case MergeMethod::kBreadcrumbsTies: return make_sparse_merge(job, unit);
    case MergeMethod::kSce:
    case MergeMethod::kRam:
    case MergeMethod::kRamPlus: return make_select_merge(job, unit);
    case MergeMethod::kArceeFusion: return make_fusion_merge(job, unit);
    case MergeMethod::kLora: return make_lora_merge(job, unit);
    default: return make_linear_merge(job, unit);
  }
}

}  // namespace ckpt
