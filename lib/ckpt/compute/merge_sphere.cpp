// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_sphere.h"

#include <cmath>

#include <fmt/format.h>

#include "ckpt/compute/float_merge.h"
#include "ckpt/compute/merge_factory.h"
#include "ckpt/compute/sphere.h"

namespace ckpt {
namespace {

/// How far from the first to the second.
double nuslerp_t(std::span<const double> weights) {
  const auto sum = weights[0] + weights[1];
  return std::fabs(sum) < 1e-6 ? 0.5 : weights[1] / sum;
}

/// A factor for each vector. Error: kUnsupported where the method has no answer.
Result<std::vector<double>> factors_of(const MergeJob& job, const Gram& gram) {
  const auto& parameters = job.parameters;
  switch (job.method) {
    case MergeMethod::kSlerp: return slerp_factors(gram, parameters[MergeParameter::kT]);
    case MergeMethod::kNuslerp: return nuslerp_factors(gram, nuslerp_t(parameters.weights));
    case MergeMethod::kKarcher:
      if (gram.size() == 1) return std::vector<double>{1};
      return karcher_factors(gram, static_cast<int>(parameters[MergeParameter::kMaxIter]),
                             parameters[MergeParameter::kTol]);
    default: break;
  }
  if (gram.size() == 1) return std::vector<double>{1};
  auto factors =
      multislerp_factors(gram, parameters.weights, parameters.flag(MergeParameter::kNormalizeWeights),
                         parameters[MergeParameter::kEps]);
  if (factors) return *std::move(factors);
  return Error(ErrorCode::kUnsupported,
               fmt::format("tensor '{}': the weighted tensors cancel each other out", job.name))
      .with_hint("multislerp has an answer for other weights");
}

template <typename Real>
std::vector<Real> as_real(std::span<const double> values) {
  std::vector<Real> out;
  for (const auto value : values) out.push_back(static_cast<Real>(value));
  return out;
}

/// Inner products of `inputs` of them, as the kernel packs them.
Gram unpacked(std::size_t inputs, std::span<const double> packed) {
  Gram gram(inputs);
  std::size_t pair = 0;
  for (std::size_t i = 0; i < inputs; ++i) {
    for (std::size_t j = 0; j <= i; ++j, ++pair) gram.at(i, j) = gram.at(j, i) = packed[pair];
  }
  return gram;
}

/// Whole tensors as vectors from 0.
template <typename Real>
class SphereMerge final : public FloatMerge<Real> {
 public:
  SphereMerge(const MergeJob& job, VectorUnit unit) : FloatMerge<Real>(job, unit, true) {
    const bool around_base =
        job.base && job.method == MergeMethod::kMultislerp;  // what one tensor alone needs not
    for (std::size_t i = 0; i < job.inputs.size(); ++i) {
      if (!around_base || i != job.base) order_.push_back(i);
    }
    if (job.method == MergeMethod::kSlerp && job.base == 1U) std::swap(order_[0], order_[1]);
  }

  Result<std::uint64_t> next_pass() override {
    if (!std::exchange(is_measured_, true)) return this->chunks();
    Gram gram(order_.size());
    for (std::size_t i = 0; i < order_.size(); ++i) {
      for (std::size_t j = 0; j < order_.size(); ++j) gram.at(i, j) = this->product(order_[i], order_[j]);
    }
    CKPT_ASSIGN_OR_RETURN(const auto factors, factors_of(this->job_, gram));
    factors_ = as_real<Real>(factors);
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t chunk, MergeScratch& scratch) override { return this->measure(chunk, scratch); }

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    std::vector<const Real*> x;
    for (const auto i : order_) x.push_back(block.x[i]);
    this->kernels_.linear(x.size(), x.data(), factors_.data(), 1, block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    BackendPass out{CKPT_LINEAR, order_, {factors_.begin(), factors_.end()}, {}};
    out.parameters.push_back(1);
    return out;
  }

 private:
  std::vector<std::size_t> order_;
  bool is_measured_ = false;
  std::vector<Real> factors_;
};

/// Changes of a base as vectors, whole or row by row.
template <typename Real>
class SphereOfChanges final : public ChangeMerge<Real> {
 public:
  SphereOfChanges(const MergeJob& job, VectorUnit unit)
      : ChangeMerge<Real>(job, unit),
        pairs_(this->others_.size() * (this->others_.size() + 1) / 2),
        sums_(pairs_) {
    const bool by_row = is_model_stock() && job.parameters.flag(MergeParameter::kFilterWise);
    if (by_row && !job.shape.empty()) this->set_row(static_cast<std::uint64_t>(job.shape.back()));
  }

  Result<std::uint64_t> next_pass() override {
    if (this->row_ > 0) return std::uint64_t{0};
    if (!std::exchange(is_measured_, true)) return this->chunks();
    CKPT_ASSIGN_OR_RETURN(weights_, weights_of(unpacked(this->others_.size(), sums_.sums())));
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t chunk, MergeScratch& scratch) override {
    std::vector<double> sums(pairs_);
    const auto add = [&](const MergeBlock<Real>& block) {
      const auto changes = this->changes(block);
      this->kernels_.gram(changes.size(), changes.data(), sums.data(), block.count);
    };
    CKPT_RETURN_IF_ERROR(
        this->sum_chunk(chunk, scratch, {CKPT_GRAM_OF_CHANGES, this->base_first(), {}, {}}, sums, add));
    sums_.add(chunk, sums);
    return {};
  }

 protected:
  std::size_t more_blocks() const override { return 1; }

  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    if (this->row_ == 0) return {};
    const auto others = this->others_.size();
    const auto first_row = chunk * this->chunk_size_ / this->row_;
    auto& sums = scratch.numbers;
    sums.assign(this->chunk_size_ / this->row_ * pairs_, 0.0);
    CKPT_RETURN_IF_ERROR(this->for_chunk(chunk, scratch, [&](const MergeBlock<Real>& block) {
      const auto changes = this->changes(block);
      const auto row = block.first / this->row_ - first_row;
      this->kernels_.gram(others, changes.data(), sums.data() + row * pairs_, block.count);
    }));
    // Factors take the places of products, of which there are as many or more.
    for (std::size_t row = 0; row * pairs_ < sums.size(); ++row) {
      const auto packed = std::span(sums).subspan(row * pairs_, pairs_);
      CKPT_ASSIGN_OR_RETURN(const auto weights, weights_of(unpacked(others, packed)));
      for (std::size_t i = 0; i < weights.size(); ++i) packed[i] = static_cast<double>(weights[i]);
    }
    return {};
  }

  void combine_block(std::uint64_t chunk, const MergeBlock<Real>& block) override {
    if (this->row_ == 0) return put_together(weights_, block);
    const auto row = block.first / this->row_ - chunk * this->chunk_size_ / this->row_;
    std::vector<Real> weights;
    for (std::size_t i = 0; i < std::max<std::size_t>(1, factors()); ++i)
      weights.push_back(static_cast<Real>(block.scratch->numbers[row * pairs_ + i]));
    put_together(weights, block);
  }

  std::optional<BackendPass> pass() const override {
    if (this->row_ > 0 || is_model_stock()) return std::nullopt;
    auto out = this->pass_of(CKPT_TASK_SUM, {1, 1});
    std::copy(weights_.begin(), weights_.end(), out.parameters.begin());
    return out;
  }

 private:
  bool is_model_stock() const { return this->job_.method == MergeMethod::kModelStock; }

  std::size_t factors() const { return is_model_stock() ? 1 : this->others_.size(); }

  /// Of each change; of model-stock the share alone.
  Result<std::vector<Real>> weights_of(const Gram& gram) const {
    if (is_model_stock()) return std::vector<Real>{static_cast<Real>(model_stock_share(gram))};
    CKPT_ASSIGN_OR_RETURN(const auto factors, factors_of(this->job_, gram));
    return as_real<Real>(factors);
  }

  void put_together(const std::vector<Real>& weights, const MergeBlock<Real>& block) const {
    if (!is_model_stock()) {
      const auto changes = this->changes(block);
      auto task = this->task(changes, block);
      task.weights = weights.data();
      return this->kernels_.task_sum(task, block.out, block.count);
    }
    // share * mean + (1 - share) * base
    const auto share = weights[0];
    const auto count = this->others_.size();
    std::vector<const Real*> x;
    for (const auto i : this->others_) x.push_back(block.x[i]);
    const std::vector<Real> ones(count, Real{1});
    auto* mean = this->more_block(block, 0);
    this->kernels_.linear(count, x.data(), ones.data(), static_cast<Real>(count), mean, block.count);
    const Real* const both[] = {mean, block.x[this->base_]};
    const Real shares[] = {share, 1 - share};
    this->kernels_.linear(2, both, shares, 1, block.out, block.count);
  }

  std::size_t pairs_;
  OrderedSums sums_;
  bool is_measured_ = false;
  std::vector<Real> weights_;
};

/// nuslerp along columns or rows, of tensors themselves or of changes. Columns: vectors go along the first
/// dimension.
template <typename Real>
class VectorwiseNuslerp final : public FloatMerge<Real> {
 public:
  VectorwiseNuslerp(const MergeJob& job, VectorUnit unit) : FloatMerge<Real>(job, unit) {
    for (std::size_t i = 0; i < job.inputs.size(); ++i) {
      if (i != job.base) inputs_.push_back(i);
    }
    by_column_ = job.parameters.flag(MergeParameter::kRowWise) && job.shape.size() > 1;
    if (by_column_) {
      columns_ = this->numbers_ / static_cast<std::uint64_t>(job.shape[0]);
      this->row_ = columns_;
    } else {
      this->set_row(static_cast<std::uint64_t>(job.shape.back()));
    }
  }

  Result<std::uint64_t> next_pass() override {
    if (!by_column_ || std::exchange(is_measured_, true)) return std::uint64_t{0};
    if (columns_ > kMostColumns)
      return Error(ErrorCode::kUnsupported,
                   fmt::format("tensor '{}': nuslerp_row_wise takes up to {} columns, not {}",
                               this->job_.name, kMostColumns, columns_));
    u_.resize(columns_ + kMergeBlock);
    v_.resize(columns_ + kMergeBlock);
    return (columns_ + kMergeBlock - 1) / kMergeBlock;
  }

  /// A stripe of columns, from top to bottom.
  Status reduce(std::uint64_t part, MergeScratch& scratch) override {
    scratch.reserve_blocks(this->blocks());
    const auto first = part * kMergeBlock;
    const auto count = std::min<std::uint64_t>(kMergeBlock, columns_ - first);
    auto& sums = scratch.numbers;
    sums.assign(3 * kMergeBlock, 0.0);
    for (auto at = first; at < this->numbers_; at += columns_) {
      CKPT_RETURN_IF_ERROR(this->read_strip(at, count, scratch));
      this->for_blocks(at, count, scratch, [&](const MergeBlock<Real>& block) { add(block, sums.data()); });
    }
    for (std::size_t i = 0; i < count; ++i) {
      Gram gram(2);
      gram.at(0, 0) = sums[i];
      gram.at(0, 1) = gram.at(1, 0) = sums[kMergeBlock + i];
      gram.at(1, 1) = sums[2 * kMergeBlock + i];
      const auto factors = nuslerp_factors(gram, nuslerp_t(this->job_.parameters.weights));
      u_[first + i] = static_cast<Real>(factors[0]);
      v_[first + i] = static_cast<Real>(factors[1]);
    }
    return {};
  }

 protected:
  std::size_t more_blocks() const override { return 1; }

  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    if (by_column_) return {};
    const auto first_row = chunk * this->chunk_size_ / this->row_;
    auto& sums = scratch.numbers;
    sums.assign(this->chunk_size_ / this->row_ * 3, 0.0);
    CKPT_RETURN_IF_ERROR(this->for_chunk(chunk, scratch, [&](const MergeBlock<Real>& block) {
      const Real* const both[] = {vector(block, 0), vector(block, 1)};
      this->kernels_.gram(2, both, sums.data() + (block.first / this->row_ - first_row) * 3, block.count);
    }));
    for (std::size_t row = 0; row < sums.size(); row += 3) {
      const auto gram = unpacked(2, std::span(sums).subspan(row, 3));
      const auto factors = nuslerp_factors(gram, nuslerp_t(this->job_.parameters.weights));
      sums[row] = factors[0];
      sums[row + 1] = factors[1];
    }
    return {};
  }

  void combine_block(std::uint64_t chunk, const MergeBlock<Real>& block) override {
    const Real* const both[] = {vector(block, 0), vector(block, 1)};
    auto* blended = this->job_.base ? this->more_block(block, 0) : block.out;
    if (by_column_) {
      const auto column = block.first % columns_;
      this->kernels_.blend(u_.data() + column, both[0], v_.data() + column, both[1], blended, block.count);
    } else {
      const auto row = block.first / this->row_ - chunk * this->chunk_size_ / this->row_;
      const auto* found = block.scratch->numbers.data() + row * 3;
      const Real factors[] = {static_cast<Real>(found[0]), static_cast<Real>(found[1])};
      this->kernels_.linear(2, both, factors, 1, blended, block.count);
    }
    if (!this->job_.base) return;
    const Real* const sum[] = {block.x[*this->job_.base], blended};
    const Real ones[] = {1, 1};
    this->kernels_.linear(2, sum, ones, 1, block.out, block.count);
  }

 private:
  static constexpr std::uint64_t kMostColumns = std::uint64_t{1} << 22U;

  /// Input `i`, or what it changes.
  const Real* vector(const MergeBlock<Real>& block, std::size_t i) const {
    auto* x = block.x[inputs_[i]];
    if (this->job_.base) this->kernels_.subtract(x, block.x[*this->job_.base], x, block.count);
    return x;
  }

  void add(const MergeBlock<Real>& block, double* sums) const {
    const auto* a = vector(block, 0);
    const auto* b = vector(block, 1);
    this->kernels_.add_products(a, a, sums, block.count);
    this->kernels_.add_products(a, b, sums + kMergeBlock, block.count);
    this->kernels_.add_products(b, b, sums + 2 * kMergeBlock, block.count);
  }

  std::vector<std::size_t> inputs_;
  bool by_column_;
  std::uint64_t columns_ = 0;
  bool is_measured_ = false;
  std::vector<Real> u_;  ///< factors by column
  std::vector<Real> v_;
};

}  // namespace

std::unique_ptr<TensorMerge> make_sphere_merge(const MergeJob& job, VectorUnit unit) {
  const bool by_vector = job.method == MergeMethod::kNuslerp && !job.shape.empty() &&
                         !job.parameters.flag(MergeParameter::kFlatten);
  if (by_vector) return make_for_real<VectorwiseNuslerp>(job, unit);
  const bool of_changes = job.method == MergeMethod::kModelStock ||
                          (job.base && job.method == MergeMethod::kNuslerp) ||
                          (job.base && job.method == MergeMethod::kMultislerp && job.inputs.size() > 2);
  if (of_changes) return make_for_real<SphereOfChanges>(job, unit);
  return make_for_real<SphereMerge>(job, unit);
}

}  // namespace ckpt
