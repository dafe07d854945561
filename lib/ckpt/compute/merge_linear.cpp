// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_linear.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ckpt/compute/float_merge.h"
#include "ckpt/compute/merge_factory.h"

namespace ckpt {
namespace {

struct LinearFactors {
  std::vector<double> weights;
  double divisor = 1;
};

/// The sum of weights and divisor that a method is.
LinearFactors factors_of(const MergeJob& job) {
  const auto& parameters = job.parameters;
  const auto alpha = parameters[MergeParameter::kAlpha];
  const auto beta = parameters[MergeParameter::kBeta];
  switch (job.method) {
    case MergeMethod::kLinear: {
      const auto& weights = parameters.weights;
      const auto sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      return {weights, parameters.flag(MergeParameter::kNormalize) ? sum : 1};
    }
    case MergeMethod::kWeightedSubtraction: return {{1, -(alpha * beta)}, 1 - alpha * beta};
    case MergeMethod::kSumTwice: return {{(1 - beta) * (1 - alpha), (1 - beta) * alpha, beta}, 1};
    case MergeMethod::kTripleSum: return {{1 - alpha - beta, alpha, beta}, 1};
    default: return {std::vector<double>(job.inputs.size(), 1.0), static_cast<double>(job.inputs.size())};
  }
}

template <typename Real>
class LinearMerge final : public FloatMerge<Real> {
 public:
  LinearMerge(const MergeJob& job, VectorUnit unit) : FloatMerge<Real>(job, unit) {
    const auto factors = factors_of(job);
    for (const auto weight : factors.weights) weights_.push_back(static_cast<Real>(weight));
    divisor_ = static_cast<Real>(factors.divisor);
  }

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    this->kernels_.linear(weights_.size(), block.x, weights_.data(), divisor_, block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    BackendPass out{CKPT_LINEAR, {}, {weights_.begin(), weights_.end()}, {}};
    for (std::size_t i = 0; i < weights_.size(); ++i) out.inputs.push_back(i);
    out.parameters.push_back(static_cast<double>(divisor_));
    return out;
  }

 private:
  std::vector<Real> weights_;
  Real divisor_;
};

/// The largest of floats that are counters.
template <typename Real>
class CounterMerge final : public FloatMerge<Real> {
 public:
  using FloatMerge<Real>::FloatMerge;

  /// They say nothing about the models.
  MergeMeasures measures() const override { return {}; }

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    std::copy_n(block.x[0], block.count, block.out);
    for (std::size_t k = 1; k < this->job_.inputs.size(); ++k) {
      for (std::size_t i = 0; i < block.count; ++i) block.out[i] = std::max(block.out[i], block.x[k][i]);
    }
  }
};

template <typename Real>
class TaskArithmetic final : public ChangeMerge<Real> {
 public:
  TaskArithmetic(const MergeJob& job, VectorUnit unit) : ChangeMerge<Real>(job, unit) {
    lambda_ = static_cast<Real>(job.parameters[MergeParameter::kLambda]);
    if (!job.parameters.flag(MergeParameter::kNormalize)) return;
    const auto& weights = job.parameters.weights;
    const auto sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    if (!(std::fabs(sum) < kTinySum)) divisor_ = static_cast<Real>(sum);
  }

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    const auto changes = this->changes(block);
    auto task = this->task(changes, block);
    task.divisor = divisor_;
    task.lambda = lambda_;
    this->kernels_.task_sum(task, block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    return this->pass_of(CKPT_TASK_SUM, {static_cast<double>(divisor_), static_cast<double>(lambda_)});
  }

 private:
  Real divisor_ = 1;
  Real lambda_;
};

/// a + alpha (b - c)
template <typename Real>
class AddDifference final : public ChangeMerge<Real> {
 public:
  using ChangeMerge<Real>::ChangeMerge;

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    auto* difference = block.x[this->others_[0]];
    this->kernels_.subtract(difference, block.x[this->others_[1]], difference, block.count);
    const Real* const changes[] = {difference};
    const Real one = 1;
    TaskSum<Real> task;
    task.inputs = 1;
    task.changes = changes;
    task.weights = &one;
    task.base = block.x[this->base_];
    task.lambda = static_cast<Real>(this->job_.parameters[MergeParameter::kAlpha]);
    this->kernels_.task_sum(task, block.out, block.count);
  }
};

template <typename Real>
class Nearswap final : public ChangeMerge<Real> {
 public:
  using ChangeMerge<Real>::ChangeMerge;

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    const auto t = static_cast<Real>(this->job_.parameters[MergeParameter::kT]);
    this->kernels_.nearswap(block.x[this->base_], block.x[this->others_[0]], t, block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    return BackendPass{CKPT_NEARSWAP, this->base_first(), {this->job_.parameters[MergeParameter::kT]}, {}};
  }
};

}  // namespace

std::unique_ptr<TensorMerge> make_linear_merge(const MergeJob& job, VectorUnit unit) {
  switch (job.method) {
    case MergeMethod::kTaskArithmetic: return make_for_real<TaskArithmetic>(job, unit);
    case MergeMethod::kAddDifference: return make_for_real<AddDifference>(job, unit);
    case MergeMethod::kNearswap: return make_for_real<Nearswap>(job, unit);
    default: return make_for_real<LinearMerge>(job, unit);
  }
}

std::unique_ptr<TensorMerge> make_counter_merge(const MergeJob& job, VectorUnit unit) {
  return make_for_real<CounterMerge>(job, unit);
}

}  // namespace ckpt
