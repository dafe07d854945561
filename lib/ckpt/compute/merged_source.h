// SPDX-License-Identifier: BSD-3-Clause
// Tensors that are merged while they are written, each from the tensors of one name in several files. They
// read like a file; memory does not grow with their size.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/compute/merge_method.h"
#include "ckpt/compute/vector_unit.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

inline constexpr std::uint64_t kMostSlabBytes = std::uint64_t{16} << 20U;

/// A dense tensor, in the order of its shape, the last dimension fastest.
struct MergeInput {
  std::shared_ptr<const ByteSource> source;
  std::uint64_t offset = 0;  ///< bytes
  Dtype dtype = Dtype::kFloat32;
  bool swapped = false;  ///< the numbers have the other byte order
  LazyBits lazy = {};    ///< what the numbers stand for
  std::size_t file = 0;  ///< which of the merged files it is from: cosines are totalled by it
};

/// One tensor of the result.
struct MergeJob {
  std::string name;  ///< the tensor's: messages say it, and random masks depend on it
  /// All of `shape`, except for kLora: the weight, then A and B of each adapter.
  std::vector<MergeInput> inputs;
  std::vector<std::int64_t> shape;
  std::optional<std::size_t> base;  ///< which input; where the method has one
  MergeMethod method = MergeMethod::kMean;
  MergeParameters parameters;
  Dtype dtype = Dtype::kFloat32;  ///< of the result
  Accumulate accumulate = Accumulate::kFloat64;
  IntegerRule integers = IntegerRule::kEqual;  ///< where the inputs hold no floats: then method is not asked
  bool is_counter = false;  ///< floats that count something: the largest, and no part of what is measured
  std::vector<std::uint64_t> ranks = {};  ///< kLora: r of each adapter, whose A is r x in and B out x r
  /// Inputs that are not complex may lie in another order of dimensions than C order, and so will the result:
  /// which dimension of the tensor each of `shape` is. Only for methods that ask where each element is, and
  /// not for rows. Empty: they lie in C order.
  std::vector<std::size_t> axes = {};
  /// How the result lies: the dimensions from the slowest to the fastest. Empty: in C order, as the inputs
  /// do.
  std::vector<std::size_t> order = {};
  std::uint64_t most_slab_bytes = kMostSlabBytes;  ///< that are put in this order at once
  bool result_swapped = false;                     ///< the result's numbers are to have the other byte order

  CKPT_EXPORT std::uint64_t numel() const;
};

/// Can it be merged? kUsage: a parameter that means nothing, the wrong number of inputs. kUnsupported: dtypes
/// that the method can't take, floats and integers in one tensor.
CKPT_EXPORT Status check_merge_job(const MergeJob& job);

/// What is known of the inputs of one tensor, once it has been merged.
struct MergeMeasures {
  bool known = false;  ///< false: not merged yet, or no floats
  std::size_t inputs = 0;
  std::optional<std::uint64_t> not_finite;  ///< numbers of the result that are NaN or infinite
  bool of_pairs = true;      ///< false, of very many inputs: of each with the first and with itself alone
  std::vector<double> gram;  ///< inner products: rows of the lower triangle, or those two of each input

  /// NaN if it is not known.
  CKPT_EXPORT double product(std::size_t a, std::size_t b) const;

  CKPT_EXPORT double norm(std::size_t input) const;
  /// NaN where an input is zero or has values that are no numbers.
  CKPT_EXPORT double cosine(std::size_t a, std::size_t b) const;
};

class CKPT_EXPORT MergedSource final : public ComputedSource {
 public:
  /// `least_cosine`: floating tensors of two files, all of them as one vector, with a smaller cosine are of
  /// unrelated models, and refused; nothing: anything is merged.
  MergedSource(std::string name, std::optional<double> least_cosine, VectorUnit unit = best_vector_unit());
  ~MergedSource() override;

  /// Where in this source the result lies; size 0 for no values. Preconditions: `check_merge_job`; the inputs
  /// lie in their sources. Not while others read.
  Extent add(MergeJob job);

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return size_; }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  bool has_verdict() const override { return true; }

  void add_inputs(Extent wanted, std::vector<SourceStretch>& out) const override;

  /// Errors besides: kRefused for unrelated models and for integers that differ.
  Status produce(std::span<const Extent> pieces, const ComputeOptions& options, const Deliver& deliver,
                 const std::function<void()>& report) const override;

  const std::vector<MergeJob>& jobs() const { return jobs_; }

  /// By job, in the order they were added. Not while `produce` runs.
  const std::vector<MergeMeasures>& measures() const { return measures_; }

  /// Of all floating tensors that both files have, as one vector; NaN where there are none.
  double total_cosine(std::size_t file, std::size_t other) const;

 private:
  class Work;
  class Reading;

  std::size_t job_at(std::uint64_t offset) const;
  Status check_relation() const;

  std::string name_;
  std::optional<double> least_cosine_;
  VectorUnit unit_;
  std::vector<MergeJob> jobs_;
  std::vector<Extent> extents_;  ///< by job, ascending
  std::uint64_t size_ = 0;
  mutable std::vector<MergeMeasures> measures_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Reading> reading_;  ///< of `read_at`: the tensor it is in
};

}  // namespace ckpt
