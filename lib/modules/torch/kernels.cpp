// SPDX-License-Identifier: BSD-3-Clause
// Each kernel does what the one of its name does in ckpt/compute/merge_kernels.cpp, in that order, an
// operator for an operation: LibTorch's own fused ones round differently.
#include "modules/torch/kernels.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "modules/torch/operators.h"
#include "modules/torch/rounding.h"
#include "modules/torch/stream_guard.h"
#include "modules/torch/stretch.h"

namespace ckpt::torch_module {
namespace {

constexpr std::uint64_t kPiece = std::uint64_t{1} << 15U;  // values whose float64 stay in a near cache
constexpr double kLeastDivisor = 1e-6;

struct Changes {
  Tensor base;
  std::vector<Tensor> all;

  explicit Changes(const Stretch& stretch) : base(stretch.input(0)) {
    for (std::size_t i = 0; i < stretch.changes(); ++i) all.push_back(stretch.change(i, base));
  }
};

Tensor divided(const Tensor& values, double divisor, const Stretch& stretch) {
  return divisor == 1 ? values : values / stretch.number(divisor);
}

/// The sum of weighted values, from 0 on; `value(i)` for each weight.
template <typename Value>
Tensor weighted_sum(const Stretch& stretch, std::size_t count, const Value& value) {
  auto sum = stretch.number(stretch.parameter(0)) * value(0) + stretch.zero();
  for (std::size_t i = 1; i < count; ++i) sum = sum + stretch.number(stretch.parameter(i)) * value(i);
  return sum;
}

Tensor linear(const Stretch& stretch) {
  const auto count = stretch.inputs();
  const auto sum = weighted_sum(stretch, count, [&](std::size_t i) { return stretch.input(i); });
  return divided(sum, stretch.parameter(count), stretch);
}

Tensor finished(const Tensor& base, const Tensor& change, double lambda, const Stretch& stretch) {
  return base + (lambda == 1 ? change : change * stretch.number(lambda));
}

Tensor task_sum(const Stretch& stretch) {
  const auto count = stretch.changes();
  const auto base = stretch.input(0);
  const auto sum = weighted_sum(stretch, count, [&](std::size_t i) { return stretch.change(i, base); });
  return finished(base, divided(sum, stretch.parameter(count), stretch), stretch.parameter(count + 1),
                  stretch);
}

/// 1 where it is true, 0 elsewhere.
Tensor ones_where(const Tensor& condition, const Stretch& stretch) {
  return where(condition, stretch.one(), stretch.zero());
}

/// Those that agree with an elected sign, and what they weigh.
struct Agreement {
  Tensor sum;
  Tensor divisor;

  explicit Agreement(const Stretch& stretch) : sum(stretch.zeros()), divisor(stretch.zeros()) {}

  /// `part` decides by its sign, `value` is added.
  void add(const Tensor& elected, const Tensor& part, const Tensor& value, double weight,
           const Stretch& stretch) {
    const auto agrees = where(elected >= stretch.zero(), part, -part) > stretch.zero();
    sum = sum + where(agrees, value, stretch.zero());
    divisor = divisor + where(agrees, stretch.number(weight), stretch.zero());
  }
};

/// `merged`, but what is no number where `all` is none.
Tensor or_nan(const Tensor& merged, const Tensor& all) {
  return where(all == all, merged, all);
}

Tensor consensus(const Stretch& stretch, bool by_count) {
  const auto count = stretch.changes();
  const Changes changes(stretch);
  std::vector<Tensor> parts;
  auto all = stretch.zeros();
  auto votes = stretch.zeros();
  for (std::size_t i = 0; i < count; ++i) {
    parts.push_back(stretch.number(stretch.parameter(i)) * changes.all[i]);
    all = all + parts[i];
    if (by_count) {
      const auto up = ones_where(parts[i] > stretch.zero(), stretch);
      votes = votes + (up - ones_where(parts[i] < stretch.zero(), stretch));
    }
  }
  Agreement agreement(stretch);
  for (std::size_t i = 0; i < count; ++i)
    agreement.add(by_count ? votes : all, parts[i], parts[i], stretch.parameter(i), stretch);
  auto merged = agreement.sum;
  if (stretch.parameter(count) != 1)
    merged = merged / where(agreement.divisor == stretch.zero(), stretch.one(), agreement.divisor);
  return finished(changes.base, or_nan(merged, all), stretch.parameter(count + 1), stretch);
}

/// As large as `least`, or larger. A NaN stays.
Tensor at_least(const Tensor& values, double least, const Stretch& stretch) {
  const auto bound = stretch.number(least);
  return where(values < bound, bound, values);
}

Tensor nearswap(const Stretch& stretch) {
  const auto base = stretch.input(0);
  const auto other = stretch.input(1);
  const auto distance = at_least(absolute(base - other), kLeastDivisor, stretch);
  auto weight = stretch.number(stretch.parameter(0)) / distance;
  weight = where(weight < stretch.zero(), stretch.zero(), weight);
  weight = where(weight > stretch.one(), stretch.one(), weight);
  return weight * other + (stretch.one() - weight) * base;
}

Tensor ram(const Stretch& stretch) {
  const auto count = stretch.changes();
  const Changes changes(stretch);
  const auto epsilon = stretch.number(stretch.parameter(count));
  const auto is_inactive = [&](const Tensor& change) { return absolute(change) <= epsilon; };
  auto active = stretch.zeros();
  for (const auto& change : changes.all)
    active = active + where(is_inactive(change), stretch.zero(), stretch.one());
  const auto is_alone = active == stretch.one();
  const auto divisor = where(active < stretch.one(), stretch.one(), active);
  auto sum = stretch.zeros();
  for (std::size_t i = 0; i < count; ++i) {
    const auto& change = changes.all[i];
    const auto part = where(is_alone, stretch.number(stretch.parameter(i)) * change, change / divisor);
    sum = sum + where(is_inactive(change), stretch.zero(), part);
  }
  return changes.base + sum;
}

Tensor sce(const Stretch& stretch) {
  const Changes changes(stretch);
  auto all = stretch.zeros();
  for (const auto& change : changes.all) all = all + change;
  Agreement agreement(stretch);
  for (std::size_t i = 0; i < stretch.changes(); ++i) {
    const auto weight = stretch.parameter(i);
    agreement.add(all, changes.all[i], changes.all[i] * stretch.number(weight), weight, stretch);
  }
  const auto merged = agreement.sum / at_least(agreement.divisor, kLeastDivisor, stretch);
  return changes.base + or_nan(merged, all);
}

Tensor fuse(const Stretch& stretch) {
  const auto base = stretch.input(0);
  const auto change = stretch.input(1) - base;
  const auto importance = absolute(change) * stretch.number(stretch.parameter(0));
  return where(importance >= stretch.number(stretch.parameter(1)), base + change, or_nan(base, change));
}

Tensor combined(std::int32_t kernel, const Stretch& stretch) {
  switch (kernel) {
    case CKPT_LINEAR: return linear(stretch);
    case CKPT_TASK_SUM: return task_sum(stretch);
    case CKPT_CONSENSUS_BY_SUM: return consensus(stretch, false);
    case CKPT_CONSENSUS_BY_COUNT: return consensus(stretch, true);
    case CKPT_NEARSWAP: return nearswap(stretch);
    case CKPT_RAM: return ram(stretch);
    case CKPT_SCE: return sce(stretch);
    default: return fuse(stretch);
  }
}

bool reduces(const CkptKernelCall& call) {
  return call.kernel == CKPT_GRAM || call.kernel == CKPT_GRAM_OF_CHANGES;
}

/// Inputs, or changes, whose inner products a kernel makes.
std::vector<Tensor> vectors(const CkptKernelCall& call, const Stretch& stretch) {
  if (call.kernel == CKPT_GRAM_OF_CHANGES) return Changes(stretch).all;
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < stretch.inputs(); ++i) inputs.push_back(stretch.input(i));
  return inputs;
}

void add_gram(const CkptKernelCall& call, const Stretch& stretch, double* sums) {
  std::vector<Tensor> all;
  std::vector<Tensor> products;
  for (const auto& vector : vectors(call, stretch)) {
    all.push_back(to(vector, ScalarType::Double));
    for (const auto& other : all) products.push_back(sum(all.back() * other));
  }
  for (const auto& product : products) *sums++ += value_of(product);  // a GPU is waited for here alone
}

/// `work(first, count)` for stretches: all of it on a GPU, what a cache holds elsewhere.
template <typename Work>
void for_stretches(const CkptValues& values, const Work& work) {
  const auto piece = values.device < 0 ? kPiece : std::max<std::uint64_t>(values.count, 1);
  for (std::uint64_t first = 0; first < values.count; first += piece)
    work(first, std::min(piece, values.count - first));
}

bool is_float(std::int32_t dtype) {
  return dtype == CKPT_FLOAT16 || dtype == CKPT_BFLOAT16 || dtype == CKPT_FLOAT32 || dtype == CKPT_FLOAT64;
}

/// How many parameters the kernel has, or nothing.
std::size_t parameters_of(const CkptKernelCall& call) {
  switch (call.kernel) {
    case CKPT_LINEAR: return call.input_count + 1;
    case CKPT_TASK_SUM:
    case CKPT_CONSENSUS_BY_SUM:
    case CKPT_CONSENSUS_BY_COUNT: return call.input_count + 1;
    case CKPT_RAM: return call.input_count;
    case CKPT_SCE: return call.input_count - 1;
    case CKPT_NEARSWAP: return 1;
    case CKPT_FUSE: return 2;
    default: return 0;
  }
}

std::size_t least_inputs(std::int32_t kernel) {
  return kernel == CKPT_LINEAR || kernel == CKPT_GRAM ? 1 : 2;
}

bool is_known(std::int32_t kernel) {
  return (kernel >= CKPT_LINEAR && kernel <= CKPT_FUSE) || kernel == CKPT_GRAM ||
         kernel == CKPT_GRAM_OF_CHANGES;
}

}  // namespace

bool supports(const CkptKernelCall& call) {
  const auto* end = call.inputs + call.input_count;
  return is_known(call.kernel) && call.input_count >= least_inputs(call.kernel) &&
         call.parameter_count == parameters_of(call) && call.first_element % 2 == 0 &&
         (call.mask_count == 0 || call.mask_count == call.input_count - 1) &&
         (reduces(call) || is_float(call.target_dtype)) &&
         std::all_of(call.inputs, end, [](const CkptValues& values) { return is_float(values.dtype); });
}

void combine(const CkptKernelCall& call, const CkptValues& target) {
  const StreamGuard guard(target.device, call.stream);
  for_stretches(target, [&](std::uint64_t first, std::uint64_t count) {
    const Stretch stretch(call, target.device, first, count);
    round_into(tensor_of(target, first, count), combined(call.kernel, stretch), target.device);
  });
}

void reduce(const CkptKernelCall& call, double* results) {
  const StreamGuard guard(call.inputs[0].device, call.stream);
  std::fill_n(results, result_count(call), 0.0);
  for_stretches(call.inputs[0], [&](std::uint64_t first, std::uint64_t count) {
    add_gram(call, Stretch(call, call.inputs[0].device, first, count), results);
  });
}

std::size_t result_count(const CkptKernelCall& call) {
  if (!reduces(call)) return 0;
  const auto vectors = call.kernel == CKPT_GRAM ? call.input_count : call.input_count - 1;
  return vectors * (vectors + 1) / 2;
}

}  // namespace ckpt::torch_module
