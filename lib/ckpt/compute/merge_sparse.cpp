// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_sparse.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "ckpt/compute/merge_factory.h"
#include "ckpt/compute/ordered_merge.h"
#include "ckpt/compute/row_ranks.h"

namespace ckpt {
namespace {

constexpr double kRange = 0x1p32;

/// Numbers of `size` that a share of it is.
std::uint64_t floor_of(double share, std::uint64_t size) {
  return std::min(size, static_cast<std::uint64_t>(share * static_cast<double>(size)));
}

/// Divides by the weights of those who agree, or of all.
constexpr int kDivided = 0;

template <typename Real>
class SparseMerge : public OrderedMerge<Real> {
 public:
  using Block = MergeBlock<Real>;

  SparseMerge(const MergeJob& job, VectorUnit unit)
      : OrderedMerge<Real>(job, unit),
        has_consensus_(merge_method_info(job.method).has(MergeParameter::kConsensus)),
        factors_(this->others_.size(), Real{1}),
        sums_(2 * this->others_.size()) {
    const auto& parameters = job.parameters;
    lambda_ = static_cast<Real>(parameters[MergeParameter::kLambda]);
    by_count_ =
        has_consensus_ && parameters[MergeParameter::kConsensus] == static_cast<double>(Consensus::kCount);
    normalizes_ = parameters.flag(MergeParameter::kNormalize);
    rescales_ = parameters.flag(MergeParameter::kRescale);
    by_density_ = parameters[MergeParameter::kRescaleBy] == static_cast<double>(RescaleBy::kDensity);
    const auto sum = std::accumulate(parameters.weights.begin(), parameters.weights.end(), 0.0);
    if (normalizes_ && !(std::fabs(sum) < kTinySum)) divisor_ = static_cast<Real>(sum);
    if (!rescales_ || !by_density_) return;
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      const auto density = parameters.density(i);
      if (density > 0 && density < 1) factors_[i] = static_cast<Real>(1 / density);
    }
  }

  Result<std::uint64_t> next_pass() override {
    if (!is_ordered_) {
      if (const auto parts = this->next_search(); parts > 0) return parts;
      is_ordered_ = true;
      bool thins = false;
      for (std::size_t i = 0; i < this->others_.size(); ++i)
        thins = thins || this->job_.parameters.density(i) < 1;
      if (thins && rescales_ && !by_density_) return this->chunks();
    } else {
      for (std::size_t i = 0; i < factors_.size(); ++i) {
        const auto before = sums_.sums()[2 * i];
        const auto after = sums_.sums()[2 * i + 1];
        if (!(before < kTiny) && !(after < kTiny)) factors_[i] = static_cast<Real>(before / after);
      }
    }
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t part, MergeScratch& scratch) override {
    if (!is_ordered_) return this->search_part(part, scratch);
    CKPT_RETURN_IF_ERROR(begin_chunk(part, scratch));
    std::vector<double> sums(2 * this->others_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(part, scratch, [&](const Block& block) {
      const auto changes = this->changes(block);
      for (std::size_t i = 0; i < changes.size(); ++i) {
        sums[2 * i] += this->kernels_.magnitude_sum(changes[i], block.count);
        thin(part, i, block, block.x[this->others_[i]]);
        sums[2 * i + 1] += this->kernels_.magnitude_sum(changes[i], block.count);
      }
    }));
    sums_.add(part, sums);
    return {};
  }

 protected:
  std::vector<const Real*> values(const Block& block) const override { return this->changes(block); }

  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    this->begin_bands(chunk, scratch);
    return {};
  }

  /// Makes numbers of change `i` that are not kept 0.
  virtual void thin(std::uint64_t chunk, std::size_t i, const Block& block, Real* change) const = 0;

  void combine_block(std::uint64_t chunk, const Block& block) override {
    const auto changes = this->changes(block);
    for (std::size_t i = 0; i < changes.size(); ++i) {
      auto* change = block.x[this->others_[i]];
      thin(chunk, i, block, change);
      if (factors_[i] != 1) this->kernels_.scale(change, factors_[i], block.count);
    }
    auto task = this->task(changes, block);
    task.lambda = lambda_;
    if (has_consensus_) {
      task.divisor = normalizes_ ? Real{kDivided} : Real{1};
      this->kernels_.task_consensus(task, by_count_, block.out, block.count);
    } else {
      task.divisor = divisor_;
      this->kernels_.task_sum(task, block.out, block.count);
    }
  }

  /// What `thin` does, if another back end can be told.
  virtual std::optional<CkptMask> mask(std::size_t /*i*/) const { return std::nullopt; }

  std::optional<BackendPass> pass() const override {
    const auto consensus = by_count_ ? CKPT_CONSENSUS_BY_COUNT : CKPT_CONSENSUS_BY_SUM;
    const auto divisor = !has_consensus_ ? static_cast<double>(divisor_) : normalizes_ ? kDivided : 1;
    auto out =
        this->pass_of(has_consensus_ ? consensus : CKPT_TASK_SUM, {divisor, static_cast<double>(lambda_)});
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      auto found = mask(i);
      if (!found) return std::nullopt;
      found->scale = static_cast<double>(factors_[i]);
      out.masks.push_back(*found);
    }
    return out;
  }

  std::uint64_t random_key(std::size_t i) const {
    return merge_random_key(this->job_.parameters.seed, this->job_.name,
                            this->job_.inputs[this->others_[i]].file);
  }

 private:
  static constexpr double kTiny = 1e-7;

  bool has_consensus_;
  bool by_count_ = false;
  bool normalizes_ = false;
  bool rescales_ = false;
  bool by_density_ = false;
  Real divisor_ = 1;
  Real lambda_ = 1;
  bool is_ordered_ = false;
  std::vector<Real> factors_;  ///< what makes up for what was dropped
  OrderedSums sums_;           ///< of magnitudes before and after
};

/// The greatest, or a band below the very greatest.
template <typename Real>
class MagnitudeMerge final : public SparseMerge<Real> {
 public:
  MagnitudeMerge(const MergeJob& job, VectorUnit unit) : SparseMerge<Real>(job, unit) {
    const auto numbers = this->numbers_;
    for (std::size_t i = 0; i < this->others_.size(); ++i) {
      const auto density = job.parameters.density(i);
      auto kept = floor_of(density, numbers);
      std::uint64_t first = 0;
      if (density >= 1) {
        kept = numbers;
      } else if (job.method == MergeMethod::kTies) {
        if (density > 0) kept = std::max<std::uint64_t>(1, kept);
      } else {
        const auto greatest = floor_of(job.parameters.gamma(i), numbers);
        first = std::min(greatest, numbers - kept);
      }
      bands_.push_back(this->band(i, first, first + kept));
    }
  }

 protected:
  void thin(std::uint64_t /*chunk*/, std::size_t i, const MergeBlock<Real>& block,
            Real* change) const override {
    this->keep(bands_[i], block, change);
  }

  std::optional<CkptMask> mask(std::size_t i) const override { return this->mask_of(bands_[i]); }

 private:
  std::vector<MagnitudeBand<Real>> bands_;  ///< by change
};

template <typename Real>
class DareMerge final : public SparseMerge<Real> {
 public:
  DareMerge(const MergeJob& job, VectorUnit unit) : SparseMerge<Real>(job, unit) {
    for (std::size_t i = 0; i < this->others_.size(); ++i) {
      thresholds_.push_back(static_cast<std::uint64_t>(std::ceil(job.parameters.density(i) * kRange)));
      keys_.push_back(this->random_key(i));
    }
  }

 protected:
  void thin(std::uint64_t /*chunk*/, std::size_t i, const MergeBlock<Real>& block,
            Real* change) const override {
    if (this->job_.parameters.density(i) >= 1) return;
    if (this->is_in_order())
      return this->kernels_.keep_random(change, keys_[i], block.first, thresholds_[i], block.count);
    this->for_runs(block, [&](std::size_t at, const PlaceRun& run) {
      this->kernels_.keep_random_steps(change + at, keys_[i], run.place, run.step, thresholds_[i],
                                       static_cast<std::size_t>(run.count));
    });
  }

  std::optional<CkptMask> mask(std::size_t i) const override {
    if (this->job_.parameters.density(i) >= 1) return CkptMask{CKPT_KEEP_ALL, 0, 0, 1};
    if (!this->is_in_order()) return std::nullopt;
    return CkptMask{CKPT_KEEP_RANDOM, keys_[i], thresholds_[i], 1};
  }

 private:
  std::vector<std::uint64_t> thresholds_;
  std::vector<std::uint64_t> keys_;
};

/// A row is what belongs to one index of the first dimension; a vector is one.
template <typename Real>
class DellaMerge final : public SparseMerge<Real> {
 public:
  using Key = MagnitudeKey<Real>;
  using Block = MergeBlock<Real>;

  DellaMerge(const MergeJob& job, VectorUnit unit) : SparseMerge<Real>(job, unit) {
    const auto rows = job.shape.size() < 2 ? 1 : static_cast<std::uint64_t>(job.shape[0]);
    this->set_row(this->numbers_ / rows);
    for (std::size_t i = 0; i < this->others_.size(); ++i)
      masks_.push_back({job.parameters.density(i), job.parameters.epsilon(i), this->random_key(i)});
    if (is_exact() && this->numbers_ * this->others_.size() <= kMostKeptBits) bits_.resize(this->chunks());
  }

 protected:
  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    if (!is_exact()) return count(chunk, scratch);
    if (!bits_.empty() && !bits_[chunk].empty()) {
      scratch.bits = bits_[chunk];
      return {};
    }
    CKPT_RETURN_IF_ERROR(rank(chunk, scratch));
    if (!bits_.empty()) bits_[chunk] = scratch.bits;
    return {};
  }

  void thin(std::uint64_t chunk, std::size_t i, const Block& block, Real* change) const override {
    if (masks_[i].density >= 1) return;
    if (masks_[i].density <= 0) {
      std::fill_n(change, padded(block.count), Real{0});
    } else if (is_exact()) {
      const auto place = block.first - chunk * this->chunk_size_;
      this->kernels_.keep_bits(change, block.scratch->bits.data() + i * words(), place, block.count);
    } else {
      const auto& histogram = block.scratch->histograms[i];
      for (std::size_t j = 0; j < block.count; ++j) {
        if (!histogram.keeps(static_cast<double>(change[j]), masks_[i], block.first + j)) change[j] = 0;
      }
    }
  }

 private:
  static constexpr std::uint64_t kMostKeptBits = std::uint64_t{1} << 29U;  // 64 MiB

  bool is_exact() const { return this->row_ <= kLongestRankedRow; }

  bool is_ranked(std::size_t i) const { return masks_[i].density > 0 && masks_[i].density < 1; }

  /// Words of bits for a change in a chunk.
  std::size_t words() const { return static_cast<std::size_t>((this->chunk_size_ + 63) / 64); }

  /// Marks what is kept of every change in a chunk of whole rows.
  Status rank(std::uint64_t chunk, MergeScratch& scratch) {
    const auto others = this->others_.size();
    scratch.bits.assign(others * words(), 0);
    std::vector<std::vector<Key>> keys(others, std::vector<Key>(static_cast<std::size_t>(this->row_)));
    std::vector<Key> greatest(others, 0);
    RowRanker<Real> ranker(this->kernels_);
    return this->for_chunk(chunk, scratch, [&](const Block& block) {
      const auto changes = this->changes(block);
      const auto place = static_cast<std::size_t>(block.first % this->row_);
      const bool ends = place + block.count == this->row_;
      for (std::size_t i = 0; i < others; ++i) {
        if (!is_ranked(i)) continue;
        greatest[i] = this->kernels_.magnitudes(changes[i], greatest[i], keys[i].data() + place, block.count);
        if (!ends) continue;
        const auto first = block.first - place;
        const auto bit = static_cast<std::size_t>(first - chunk * this->chunk_size_);
        ranker.mark(keys[i], std::exchange(greatest[i], 0), masks_[i], first, i * words() * 64 + bit,
                    scratch.bits);
      }
    });
  }

  Status count(std::uint64_t chunk, MergeScratch& scratch) {
    auto& histograms = scratch.histograms;
    histograms.clear();
    histograms.resize(this->others_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(chunk, scratch, [&](const Block& block) {
      const auto changes = this->changes(block);
      for (std::size_t i = 0; i < changes.size(); ++i) {
        for (std::size_t j = 0; j < block.count; ++j) histograms[i].count(static_cast<double>(changes[i][j]));
      }
    }));
    for (auto& histogram : histograms) histogram.settle();
    return {};
  }

  std::vector<RankedMask> masks_;                 ///< by change
  std::vector<std::vector<std::uint64_t>> bits_;  ///< by chunk, so that rows are ranked once
};

}  // namespace

std::unique_ptr<TensorMerge> make_sparse_merge(const MergeJob& job, VectorUnit unit) {
  switch (job.method) {
    case MergeMethod::kDareLinear:
    case MergeMethod::kDareTies: return make_for_real<DareMerge>(job, unit);
    case MergeMethod::kDella:
    case MergeMethod::kDellaLinear: return make_for_real<DellaMerge>(job, unit);
    default: return make_for_real<MagnitudeMerge>(job, unit);
  }
}

}  // namespace ckpt
