// SPDX-License-Identifier: BSD-3-Clause
// W + the sum over adapters of scale * (B A): each number of B A is the sum over the rank, from 0 on; the
// scale is applied to it, and then it is added.
#include "ckpt/compute/merge_lora.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "ckpt/compute/float_merge.h"
#include "ckpt/compute/merge_factory.h"

namespace ckpt {
namespace {

/// What is read block by block: the weight alone.
struct WeightJob {
  explicit WeightJob(MergeJob all) : weight(std::move(all)) { weight.inputs.resize(1); }

  MergeJob weight;
};

double scale_of(const MergeJob& job, std::size_t adapter) {
  const auto& parameters = job.parameters;
  const auto given = parameters[MergeParameter::kR];
  const auto rank = std::isnan(given) ? static_cast<double>(job.ranks[adapter]) : given;
  const auto alpha = parameters[MergeParameter::kAlpha];
  if (std::isnan(alpha)) return parameters.weights[adapter];
  const bool root = parameters[MergeParameter::kRankStabilized] > 0;  // not where nothing is said
  const auto divisor = root ? std::sqrt(rank) : rank;
  return parameters.weights[adapter] * alpha / divisor;
}

/// All numbers of an input, each row of `columns` padded for loops.
template <typename Real>
Status read_rows(const MergeInput& input, std::uint64_t first_row, std::uint64_t rows, std::uint64_t columns,
                 std::uint64_t stride, const MergeKernels<Real>& kernels, Real* out) {
  const auto item = dtype_info(input.dtype).item_size;
  Bytes raw(columns * item);
  for (std::uint64_t row = 0; row < rows; ++row) {
    CKPT_RETURN_IF_ERROR(input.source->read_at(input.offset + (first_row + row) * columns * item, raw));
    if (input.swapped) swap_byte_order(input.dtype, raw);
    kernels.decode(input.dtype, raw.data(), out + row * stride, columns);
    if (input.lazy.negative) kernels.negate(out + row * stride, columns, 0, 1);
  }
  return {};
}

template <typename Real>
class LoraMerge final : private WeightJob, public FloatMerge<Real> {
 public:
  LoraMerge(const MergeJob& job, VectorUnit unit)
      : WeightJob(job), FloatMerge<Real>(weight, unit), all_(job) {
    columns_ = this->numbers_ / static_cast<std::uint64_t>(job.shape[0]);
    stride_ = columns_ + kMergeBlock;
    this->set_row(columns_);
    for (std::size_t i = 0; i < job.ranks.size(); ++i) scales_.push_back(static_cast<Real>(scale_of(job, i)));
    ranks_ = std::accumulate(job.ranks.begin(), job.ranks.end(), std::uint64_t{0});
  }

  /// One to read A of every adapter, which stays in memory.
  Result<std::uint64_t> next_pass() override {
    if (std::exchange(is_read_, true)) return std::uint64_t{0};
    if (ranks_ * stride_ > kMostHeld)
      return Error(ErrorCode::kUnsupported,
                   fmt::format("tensor '{}': adapters of {} numbers, where {} can be held", this->job_.name,
                               ranks_ * stride_, kMostHeld));
    a_.resize(ranks_ * stride_);
    return std::uint64_t{1};
  }

  Status reduce(std::uint64_t /*part*/, MergeScratch& /*scratch*/) override {
    auto* out = a_.data();
    for (std::size_t i = 0; i < scales_.size(); ++i) {
      const auto rank = all_.ranks[i];
      CKPT_RETURN_IF_ERROR(
          read_rows(all_.inputs[1 + 2 * i], 0, rank, columns_, stride_, this->kernels_, out));
      out += rank * stride_;
    }
    return {};
  }

  MergeMeasures measures() const override { return {}; }

 protected:
  std::size_t more_blocks() const override { return 2; }

  /// Rows of B for the chunk, of each adapter behind one another.
  Status begin_chunk(std::uint64_t chunk, MergeScratch& scratch) override {
    const auto first = chunk * this->chunk_size_ / columns_;
    const auto rows = this->chunk(chunk).size / this->item_ / columns_;
    scratch.numbers.clear();
    std::vector<Real> row;
    for (std::size_t i = 0; i < scales_.size(); ++i) {
      const auto rank = all_.ranks[i];
      row.resize(rank + kMergeBlock);
      for (std::uint64_t at = 0; at < rows; ++at) {
        CKPT_RETURN_IF_ERROR(
            read_rows(all_.inputs[2 + 2 * i], first + at, 1, rank, rank, this->kernels_, row.data()));
        scratch.numbers.insert(scratch.numbers.end(), row.begin(),
                               row.begin() + static_cast<std::ptrdiff_t>(rank));
      }
    }
    return {};
  }

  void combine_block(std::uint64_t chunk, const MergeBlock<Real>& block) override {
    const auto rows = this->chunk(chunk).size / this->item_ / columns_;
    const auto row = (block.first - chunk * this->chunk_size_) / columns_;
    const auto column = block.first % columns_;
    auto* change = this->more_block(block, 0);
    auto* sum = this->more_block(block, 1);
    std::copy_n(block.x[0], padded(block.count), block.out);
    const auto* a = a_.data();
    const auto* b = block.scratch->numbers.data();
    std::vector<const Real*> x;
    std::vector<Real> factors;
    for (std::size_t i = 0; i < scales_.size(); ++i) {
      const auto rank = all_.ranks[i];
      x.clear();
      factors.clear();
      for (std::uint64_t k = 0; k < rank; ++k) {
        x.push_back(a + k * stride_ + column);
        factors.push_back(static_cast<Real>(b[row * rank + k]));
      }
      this->kernels_.linear(rank, x.data(), factors.data(), 1, change, block.count);
      this->kernels_.scale(change, scales_[i], block.count);
      const Real* const both[] = {block.out, change};
      const Real ones[] = {1, 1};
      this->kernels_.linear(2, both, ones, 1, sum, block.count);
      std::copy_n(sum, padded(block.count), block.out);
      a += rank * stride_;
      b += rows * rank;
    }
  }

 private:
  static constexpr std::uint64_t kMostHeld = std::uint64_t{1} << 24U;  ///< numbers

  const MergeJob& all_;
  std::uint64_t columns_;
  std::uint64_t stride_;  ///< between rows of A in memory
  std::uint64_t ranks_;   ///< of all adapters
  bool is_read_ = false;
  std::vector<Real> scales_;  ///< by adapter
  std::vector<Real> a_;       ///< of all adapters
};

}  // namespace

std::unique_ptr<TensorMerge> make_lora_merge(const MergeJob& job, VectorUnit unit) {
  return make_for_real<LoraMerge>(job, unit);
}

}  // namespace ckpt
