// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_select.h"

#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "ckpt/compute/merge_factory.h"
#include "ckpt/compute/ordered_merge.h"

namespace ckpt {
namespace {

/// Selects by variance, weighs each input by its squares, and elects signs.
template <typename Real>
class SceMerge final : public OrderedMerge<Real> {
 public:
  using Block = MergeBlock<Real>;

  SceMerge(const MergeJob& job, VectorUnit unit)
      : OrderedMerge<Real>(job, unit),
        nonzeros_(1),
        squares_(this->others_.size()),
        share_(job.parameters[MergeParameter::kSelectTopk]) {
    phase_ = share_ < 1 ? Phase::kBegin : Phase::kSearched;
  }

  Result<std::uint64_t> next_pass() override {
    switch (phase_) {
      case Phase::kBegin: phase_ = Phase::kCounting; return this->chunks();
      case Phase::kCounting:
        phase_ = Phase::kSearching;
        band_ = this->band(0, 0, static_cast<std::uint64_t>(nonzeros_.sums()[0] * share_));
        [[fallthrough]];
      case Phase::kSearching:
        if (const auto parts = this->next_search(); parts > 0) return parts;
        [[fallthrough]];
      case Phase::kSearched: phase_ = Phase::kWeighing; return this->chunks();
      case Phase::kWeighing: weigh(); break;
    }
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t part, MergeScratch& scratch) override {
    if (phase_ == Phase::kSearching) return this->search_part(part, scratch);
    if (phase_ == Phase::kWeighing) CKPT_RETURN_IF_ERROR(begin_chunk(part, scratch));
    std::vector<double> sums(phase_ == Phase::kCounting ? 1 : this->others_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(part, scratch, [&](const Block& block) {
      if (phase_ == Phase::kCounting) {
        sums[0] += static_cast<double>(this->kernels_.nonzeros(values(block)[0], block.count));
        return;
      }
      const auto changes = selected(block);
      for (std::size_t i = 0; i < changes.size(); ++i)
        sums[i] += this->kernels_.dot(changes[i], changes[i], block.count);
    }));
    (phase_ == Phase::kCounting ? nonzeros_ : squares_).add(part, sums);
    return {};
  }

 protected:
  std::size_t more_blocks() const override { return 1; }

  std::vector<const Real*> values(const Block& block) const override {
    return {variance(block, this->changes(block))};
  }

  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    this->begin_bands(chunk, scratch);
    return {};
  }

  void combine_block(std::uint64_t /*chunk*/, const Block& block) override {
    const auto changes = selected(block);
    this->kernels_.sce(this->task(changes, block), block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    if (share_ < 1) return std::nullopt;
    return this->pass_of(CKPT_SCE, {});
  }

 private:
  enum class Phase : std::uint8_t { kBegin, kCounting, kSearching, kSearched, kWeighing };

  Real* variance(const Block& block, const std::vector<const Real*>& changes) const {
    auto* out = this->more_block(block, 0);
    this->kernels_.variance(changes.size(), changes.data(), out, block.count);
    return out;
  }

  std::vector<const Real*> selected(const Block& block) const {
    auto changes = this->changes(block);
    if (!(share_ < 1)) return changes;
    auto* mask = variance(block, changes);
    this->keep(band_, block, mask);  // what is kept of it is not 0
    for (const auto i : this->others_) this->kernels_.keep_where(block.x[i], mask, block.count);
    return changes;
  }

  void weigh() {
    constexpr double kTiny = 1e-6;
    std::vector<double> means;
    for (const auto sum : squares_.sums()) means.push_back(sum / static_cast<double>(this->numbers_));
    const auto sum = std::accumulate(means.begin(), means.end(), 0.0);
    for (std::size_t i = 0; i < means.size(); ++i)
      this->weights_[i] =
          static_cast<Real>(std::fabs(sum) < kTiny ? 1 / static_cast<double>(means.size()) : means[i] / sum);
  }

  OrderedSums nonzeros_;
  OrderedSums squares_;
  double share_;
  Phase phase_;
  MagnitudeBand<Real> band_;
};

/// Changes that one input alone has are kept, shared ones are averaged. Of kRamPlus those alone count more,
/// the more an input shares.
template <typename Real>
class RamMerge final : public ChangeMerge<Real> {
 public:
  RamMerge(const MergeJob& job, VectorUnit unit)
      : ChangeMerge<Real>(job, unit),
        factors_(this->others_.size(), Real{1}),
        counts_(2 * this->others_.size()),
        epsilon_(static_cast<Real>(job.parameters[MergeParameter::kEpsilon])) {}

  Result<std::uint64_t> next_pass() override {
    if (this->job_.method == MergeMethod::kRam) return std::uint64_t{0};
    if (!std::exchange(is_counted_, true)) return this->chunks();
    const auto& parameters = this->job_.parameters;
    for (std::size_t i = 0; i < factors_.size(); ++i) {
      const auto alone = std::max(counts_.sums()[2 * i], parameters[MergeParameter::kEpsilon]);
      const auto share = std::max(0.0, counts_.sums()[2 * i + 1] / alone);
      factors_[i] = static_cast<Real>(1 + parameters[MergeParameter::kR] *
                                              std::min(share, parameters[MergeParameter::kAlpha]));
    }
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t part, MergeScratch& scratch) override {
    std::vector<std::uint64_t> counts(2 * this->others_.size());
    CKPT_RETURN_IF_ERROR(this->for_chunk(part, scratch, [&](const MergeBlock<Real>& block) {
      const auto changes = this->changes(block);
      const auto task = this->task(changes, block);
      for (std::size_t i = 0; i < changes.size(); ++i)
        this->kernels_.ram_counts(task, epsilon_, i, &counts[2 * i], &counts[2 * i + 1], block.count);
    }));
    counts_.add(part, std::vector<double>(counts.begin(), counts.end()));
    return {};
  }

 protected:
  void combine_block(std::uint64_t /*chunk*/, const MergeBlock<Real>& block) override {
    const auto changes = this->changes(block);
    this->kernels_.ram(this->task(changes, block), factors_.data(), epsilon_, block.out, block.count);
  }

  std::optional<BackendPass> pass() const override {
    BackendPass out{CKPT_RAM, this->base_first(), {factors_.begin(), factors_.end()}, {}};
    out.parameters.push_back(static_cast<double>(epsilon_));
    return out;
  }

 private:
  std::vector<Real> factors_;  ///< by change
  OrderedSums counts_;         ///< numbers that a change has alone, and shared ones
  Real epsilon_;
  bool is_counted_ = false;
};

}  // namespace

std::unique_ptr<TensorMerge> make_select_merge(const MergeJob& job, VectorUnit unit) {
  if (job.method == MergeMethod::kSce) return make_for_real<SceMerge>(job, unit);
  return make_for_real<RamMerge>(job, unit);
}

}  // namespace ckpt
