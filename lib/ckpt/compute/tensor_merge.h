// SPDX-License-Identifier: BSD-3-Clause
// The merge of one tensor as work that several threads can share: passes over the inputs, then the result,
// each chunk by chunk. Chunks do not depend on threads, and sums are added in their order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/merge_kernels.h"
#include "ckpt/compute/merged_source.h"
#include "ckpt/compute/row_ranks.h"
#include "ckpt/compute/tensor_backend.h"

namespace ckpt {

inline constexpr std::uint64_t kMergeChunk = std::uint64_t{1} << 18U;  ///< numbers, a multiple of kMergeBlock

inline constexpr std::size_t kMostPairedInputs = 32;  ///< inner products are known of every pair up to here

/// Memory of one thread.
class MergeScratch {
 public:
  /// Block `i` of numbers, on 64 bytes. Stays where it is until more blocks than ever are asked for.
  template <typename Real>
  Real* block(std::size_t i) {
    return reinterpret_cast<Real*>(blocks_[i].data());
  }

  void reserve_blocks(std::size_t count) {
    if (blocks_.size() < count) blocks_.resize(count);
  }

  std::vector<Bytes> raw;  ///< by input
  Bytes out;
  std::vector<std::uint64_t> keys;  ///< of any use, like the following
  std::vector<std::uint64_t> sorted;
  std::vector<std::uint64_t> counts;
  std::vector<std::uint64_t> bits;
  std::vector<double> numbers;
  std::vector<RowHistogram> histograms;  ///< by change

 private:
  struct alignas(64) Block : std::array<std::byte, kMergeBlock * sizeof(double)> {};

  std::vector<Block> blocks_;
};

/// Sums that chunks add in any order and that are added up in the order of chunks.
class OrderedSums {
 public:
  explicit OrderedSums(std::size_t size) : sums_(size) {}

  void add(std::uint64_t chunk, std::span<const double> more);

  const std::vector<double>& sums() const { return sums_; }

  /// Chunks that were added.
  std::uint64_t chunks() const { return next_; }

 private:
  std::mutex mutex_;
  std::vector<double> sums_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, std::vector<double>> waiting_;  ///< for a chunk before them
};

class TensorMerge {
 public:
  /// Takes bytes of the result that begin at `offset` in it.
  using Emit = std::function<Status(std::uint64_t offset, ByteView bytes)>;

  TensorMerge() = default;
  TensorMerge(const TensorMerge&) = delete;
  TensorMerge& operator=(const TensorMerge&) = delete;
  virtual ~TensorMerge() = default;

  /// Who may combine in place of the native kernels, with the same bits, or with sums of its own if it was
  /// asked for them; null: nobody. Before the first pass.
  virtual void combine_with(const TensorBackend* /*backend*/) {}

  /// Ends a pass and begins the next: how many `reduce`s it takes, 0 if the result can be combined.
  virtual Result<std::uint64_t> next_pass() { return std::uint64_t{0}; }

  /// Part `part` of the pass. By any thread, in any order.
  virtual Status reduce(std::uint64_t /*part*/, MergeScratch& /*scratch*/) { return {}; }

  /// Of the result, one behind the other.
  virtual std::uint64_t chunks() const = 0;
  virtual Extent chunk(std::uint64_t index) const = 0;

  /// The chunk that holds byte `offset` of the result.
  std::uint64_t chunk_at(std::uint64_t offset) const;

  /// By any thread, in any order, each chunk once.
  virtual Status combine(std::uint64_t chunk, MergeScratch& scratch, const Emit& emit) = 0;

  /// When every chunk is combined. What is not known of the inputs is not said; of the result it is, in
  /// floats.
  virtual MergeMeasures measures() const { return {}; }

  virtual std::optional<std::uint64_t> not_finite() const { return std::nullopt; }
};

/// Precondition: `check_merge_job`. The job outlives it.
Result<std::unique_ptr<TensorMerge>> make_tensor_merge(const MergeJob& job, VectorUnit unit);

}  // namespace ckpt
