// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_fusion.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ckpt/compute/float_merge.h"
#include "ckpt/compute/merge_factory.h"

namespace ckpt {
namespace {

/// Of quantiles: what a large tensor is judged by. One number of each of so many equal parts.
constexpr std::uint64_t kSampleSize = 1'000'000;

/// How far a row's softmax is from that of the base.
class RowDivergence {
 public:
  template <typename Real>
  void see(const Real* x, const Real* base, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      greatest_ = std::fmax(greatest_, static_cast<double>(x[i]));
      base_greatest_ = std::fmax(base_greatest_, static_cast<double>(base[i]));
    }
  }

  template <typename Real>
  void sum(const Real* x, const Real* base, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      sum_ += std::exp(static_cast<double>(x[i]) - greatest_);
      base_sum_ += std::exp(static_cast<double>(base[i]) - base_greatest_);
    }
  }

  template <typename Real>
  void compare(const Real* x, const Real* base, std::size_t count) {
    constexpr double kTiny = 1e-8;
    for (std::size_t i = 0; i < count; ++i) {
      const auto p = std::exp(static_cast<double>(x[i]) - greatest_) / sum_ + kTiny;
      const auto q = std::exp(static_cast<double>(base[i]) - base_greatest_) / base_sum_ + kTiny;
      divergence_ += p * std::log(p / q);
    }
  }

  double value() const { return divergence_; }

 private:
  double greatest_ = -std::numeric_limits<double>::infinity();
  double base_greatest_ = -std::numeric_limits<double>::infinity();
  double sum_ = 0;
  double base_sum_ = 0;
  double divergence_ = 0;
};

template <typename Real>
class FusionMerge final : public ChangeMerge<Real> {
 public:
  using Block = MergeBlock<Real>;

  FusionMerge(const MergeJob& job, VectorUnit unit) : ChangeMerge<Real>(job, unit) {
    this->set_row(job.shape.empty() ? 1 : static_cast<std::uint64_t>(job.shape.back()));
    sample_.resize(static_cast<std::size_t>(std::min(kSampleSize, this->numbers_)));
  }

  Result<std::uint64_t> next_pass() override {
    if (!std::exchange(is_sampled_, true)) return this->chunks();
    std::sort(sample_.begin(), sample_.end());
    const auto quantile = [&](double share) {
      return sample_[static_cast<std::size_t>(share * static_cast<double>(sample_.size() - 1))];
    };
    threshold_ = static_cast<Real>(quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25)));
    sample_ = {};
    return std::uint64_t{0};
  }

  Status reduce(std::uint64_t part, MergeScratch& scratch) override {
    CKPT_RETURN_IF_ERROR(begin_chunk(part, scratch));
    auto next = first_sample(part * this->chunk_size_);
    return this->for_chunk(part, scratch, [&](const Block& block) {
      const auto end = block.first + block.count;
      for (; next < sample_.size() && place_of(next) < end; ++next) {
        const auto i = static_cast<std::size_t>(place_of(next) - block.first);
        const auto change = block.x[this->others_[0]][i] - block.x[this->base_][i];
        const auto importance = std::fabs(change) * divergence(part, block);
        sample_[next] = std::isnan(importance) ? std::numeric_limits<double>::infinity() : importance;
      }
    });
  }

 protected:
  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    std::vector<RowDivergence> rows(static_cast<std::size_t>(this->chunk_size_ / this->row_));
    const auto look = [&](auto use) {
      return this->for_chunk(chunk, scratch, [&](const Block& block) {
        use(rows[row_of(chunk, block)], block.x[this->others_[0]], block.x[this->base_], block.count);
      });
    };
    CKPT_RETURN_IF_ERROR(look([](auto& row, auto* x, auto* base, auto count) { row.see(x, base, count); }));
    CKPT_RETURN_IF_ERROR(look([](auto& row, auto* x, auto* base, auto count) { row.sum(x, base, count); }));
    CKPT_RETURN_IF_ERROR(
        look([](auto& row, auto* x, auto* base, auto count) { row.compare(x, base, count); }));
    scratch.numbers.clear();
    for (const auto& row : rows) scratch.numbers.push_back(row.value());
    return {};
  }

  void combine_block(std::uint64_t chunk, const Block& block) override {
    this->kernels_.fuse(block.x[this->base_], block.x[this->others_[0]], divergence(chunk, block), threshold_,
                        block.out, block.count);
  }

 private:
  std::size_t row_of(std::uint64_t chunk, const Block& block) const {
    return static_cast<std::size_t>((block.first - chunk * this->chunk_size_) / this->row_);
  }

  Real divergence(std::uint64_t chunk, const Block& block) const {
    return static_cast<Real>(block.scratch->numbers[row_of(chunk, block)]);
  }

  /// Number of the tensor that is number `i` of the sample; ascending.
  std::uint64_t place_of(std::uint64_t i) const {
    const auto size = sample_.size();
    if (size == this->numbers_) return i;
    const auto first = begin_of(i);
    return first + merge_random(0, i) % (begin_of(i + 1) - first);
  }

  /// Where part `i` of the sample begins, without more than 64 bits.
  std::uint64_t begin_of(std::uint64_t i) const {
    const std::uint64_t size = sample_.size();
    return this->numbers_ / size * i + this->numbers_ % size * i / size;
  }

  std::uint64_t first_sample(std::uint64_t number) const {
    std::uint64_t low = 0;
    std::uint64_t high = sample_.size();
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      if (place_of(middle) < number) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  std::vector<double> sample_;
  bool is_sampled_ = false;
  Real threshold_ = 0;
};

}  // namespace

std::unique_ptr<TensorMerge> make_fusion_merge(const MergeJob& job, VectorUnit unit) {
  return make_for_real<FusionMerge>(job, unit);
}

}  // namespace ckpt
