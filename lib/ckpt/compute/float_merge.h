// SPDX-License-Identifier: BSD-3-Clause
// What merges of floats have in common: inputs are read in strips, decoded in blocks, and results rounded.
// Methods derive from it and say what happens to a block.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "ckpt/compute/convert.h"
#include "ckpt/compute/device.h"
#include "ckpt/compute/element_types.h"
#include "ckpt/compute/merge_values.h"
#include "ckpt/compute/tensor_merge.h"

namespace ckpt {

/// Numbers of all inputs at the same place.
template <typename Real>
struct MergeBlock {
  std::uint64_t first = 0;  ///< number of the tensor, as it lies
  std::size_t count = 0;
  Real* const* x = nullptr;  ///< by input; may be changed
  Real* out = nullptr;
  MergeScratch* scratch = nullptr;
};

template <typename Real>
class FloatMerge : public TensorMerge {
 public:
  /// `needs_gram`: the method asks for inner products, so they are known of every pair of any number of
  /// inputs.
  FloatMerge(const MergeJob& job, VectorUnit unit, bool needs_gram = false)
      : job_(job),
        kernels_(merge_kernels<Real>(unit)),
        of_pairs_(needs_gram || job.inputs.size() <= kMostPairedInputs),
        gram_(of_pairs_ ? job.inputs.size() * (job.inputs.size() + 1) / 2 : 2 * job.inputs.size()) {
    const auto& info = dtype_info(job.dtype);
    const bool is_complex = info.dtype_class == DtypeClass::kComplex;
    item_ = is_complex ? info.item_size / 2 : info.item_size;
    numbers_ = job.numel() * (is_complex ? 2 : 1);
    std::size_t bytes = item_;
    for (const auto& input : job.inputs) bytes += item_of(input);
    strip_ =
        std::clamp<std::uint64_t>(kStripBytes / bytes / kMergeBlock * kMergeBlock, kMergeBlock, kMergeChunk);
  }

  void combine_with(const TensorBackend* backend) override {
    backend_ = backend;
    if (backend != nullptr && backend->preferred_count() > strip_) strip_ = kMergeChunk;
  }

  std::uint64_t chunks() const override { return (numbers_ + chunk_size_ - 1) / chunk_size_; }

  Extent chunk(std::uint64_t index) const override {
    const auto first = index * chunk_size_;
    return {first * item_, std::min(chunk_size_, numbers_ - first) * item_};
  }

  Status combine(std::uint64_t chunk, MergeScratch& scratch, const Emit& emit) override {
    CKPT_RETURN_IF_ERROR(begin_chunk(chunk, scratch));
    scratch.reserve_blocks(blocks());
    std::vector<double> sums(gram_is_known_ ? 0 : gram_.sums().size());
    const auto elsewhere = backend_ == nullptr ? std::nullopt : if_elsewhere(pass());
    if (backend_ != nullptr) backend_->note_work(this->chunk(chunk).size / item_, elsewhere.has_value());
    const auto combine_strip = [&](std::uint64_t first, std::uint64_t count) -> Status {
      scratch.out.resize(strip_ * item_);
      if (elsewhere) CKPT_RETURN_IF_ERROR(combine_elsewhere(*elsewhere, first, count, scratch));
      if (!elsewhere || !sums.empty())
        for_blocks(first, count, scratch, [&](const MergeBlock<Real>& block) {
          if (!sums.empty()) add_products(block, sums);
          if (elsewhere) return;
          combine_block(chunk, block);
          kernels_.encode(part_dtype(job_.dtype), block.out,
                          scratch.out.data() + (block.first - first) * item_, block.count);
        });
      not_finite_ += kernels_.not_finite(part_dtype(job_.dtype), scratch.out.data(), count);
      return emit(first * item_, ByteView(scratch.out).first(count * item_));
    };
    CKPT_RETURN_IF_ERROR(for_strips(chunk, scratch, combine_strip));
    if (!gram_is_known_) gram_.add(chunk, sums);
    return {};
  }

  std::optional<std::uint64_t> not_finite() const override { return not_finite_; }

  MergeMeasures measures() const override {
    MergeMeasures out;
    out.known = gram_.chunks() == chunks() && chunks() > 0;
    out.inputs = job_.inputs.size();
    out.of_pairs = of_pairs_;
    out.gram = gram_.sums();
    return out;
  }

 protected:
  /// Blocks of numbers that a thread needs: those of inputs, one for the result, and `more_blocks()`.
  std::size_t blocks() const { return job_.inputs.size() + 1 + more_blocks(); }

  virtual std::size_t more_blocks() const { return 0; }

  /// Block `i` of `more_blocks()`.
  Real* more_block(const MergeBlock<Real>& block, std::size_t i) const {
    return block.scratch->template block<Real>(job_.inputs.size() + 1 + i);
  }

  /// Chunks hold whole rows of so many numbers.
  void set_row(std::uint64_t row) {
    row_ = row;
    chunk_size_ = row * std::max<std::uint64_t>(1, kMergeChunk / row);
  }

  virtual Status begin_chunk(std::uint64_t /*chunk*/, MergeScratch& /*scratch*/) { return {}; }

  /// Makes `out` of the inputs. Blocks of a chunk come in their order.
  virtual void combine_block(std::uint64_t chunk, const MergeBlock<Real>& block) = 0;

  /// What `combine_block` does, if it is one pass of module_abi.h, the same for every number.
  virtual std::optional<BackendPass> pass() const { return std::nullopt; }

  /// `look(block)` for each block of a chunk.
  template <typename Look>
  Status for_chunk(std::uint64_t chunk, MergeScratch& scratch, const Look& look) {
    scratch.reserve_blocks(blocks());
    return for_strips(chunk, scratch, [&](std::uint64_t first, std::uint64_t count) -> Status {
      for_blocks(first, count, scratch, look);
      return {};
    });
  }

  /// Inner products of the inputs in a chunk, in a pass before the result.
  Status measure(std::uint64_t chunk, MergeScratch& scratch) {
    gram_is_known_ = true;
    std::vector<double> sums(gram_.sums().size());
    BackendPass pass{CKPT_GRAM, {}, {}, {}};
    for (std::size_t i = 0; i < job_.inputs.size(); ++i) pass.inputs.push_back(i);
    const auto add = [&](const MergeBlock<Real>& block) { add_products(block, sums); };
    CKPT_RETURN_IF_ERROR(sum_chunk(chunk, scratch, std::move(pass), sums, add));
    gram_.add(chunk, sums);
    return {};
  }

  /// Adds what `pass` gives of a chunk to `sums`: by a back end that was asked for its sums, else by
  /// `add(block)` for each block.
  template <typename Add>
  Status sum_chunk(std::uint64_t chunk, MergeScratch& scratch, BackendPass pass, std::span<double> sums,
                   const Add& add) {
    const bool is_asked = backend_ != nullptr && backend_->makes_sums();
    const auto elsewhere = is_asked ? if_elsewhere(std::move(pass)) : std::nullopt;
    if (!elsewhere) return for_chunk(chunk, scratch, add);
    std::vector<double> more(sums.size());
    return for_strips(chunk, scratch, [&](std::uint64_t first, std::uint64_t count) -> Status {
      const auto values = values_of(*elsewhere, &scratch, count);
      CKPT_RETURN_IF_ERROR(backend_->reduce(call_of(*elsewhere, values, first), more));
      for (std::size_t i = 0; i < more.size(); ++i) sums[i] += more[i];
      backend_->note_sums(count);
      return {};
    });
  }

  /// Of inputs i and j, when all chunks are measured.
  double product(std::size_t i, std::size_t j) const {
    return gram_.sums()[i < j ? j * (j + 1) / 2 + i : i * (i + 1) / 2 + j];
  }

  /// Numbers of every input from `first` on, as they lie.
  Status read_strip(std::uint64_t first, std::uint64_t count, MergeScratch& scratch) const {
    scratch.raw.resize(std::max(scratch.raw.size(), job_.inputs.size()));
    for (std::size_t i = 0; i < job_.inputs.size(); ++i) {
      const auto& input = job_.inputs[i];
      const auto item = item_of(input);
      auto& raw = scratch.raw[i];
      if (raw.size() < count * item) raw.resize(std::max(count, strip_) * item);
      const auto bytes = std::span(raw).first(count * item);
      CKPT_RETURN_IF_ERROR(input.source->read_at(input.offset + first * item, bytes));
      if (input.swapped) swap_byte_order(part_dtype(input.dtype), bytes);
    }
    return {};
  }

  /// `use(first, count)` for strips of a chunk, one after the other, when they are read.
  template <typename Use>
  Status for_strips(std::uint64_t chunk, MergeScratch& scratch, const Use& use) const {
    const auto extent = this->chunk(chunk);
    const auto end = extent.end() / item_;
    for (auto first = extent.offset / item_; first < end;) {
      const auto count = std::min<std::uint64_t>(strip_, end - first);
      CKPT_RETURN_IF_ERROR(read_strip(first, count, scratch));
      CKPT_RETURN_IF_ERROR(use(first, count));
      first += count;
    }
    return {};
  }

  template <typename Look>
  void for_blocks(std::uint64_t first, std::uint64_t count, MergeScratch& scratch, const Look& look) const {
    std::vector<Real*> x(job_.inputs.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = scratch.block<Real>(i);
    auto* out = scratch.block<Real>(x.size());
    std::size_t size = 0;
    for (std::uint64_t done = 0; done < count; done += size) {
      const auto to_end = row_ > 0 ? std::min(count - done, row_ - (first + done) % row_) : count - done;
      size = static_cast<std::size_t>(std::min<std::uint64_t>(kMergeBlock, to_end));
      for (std::size_t i = 0; i < x.size(); ++i)
        decode(job_.inputs[i], scratch.raw[i].data(), done, x[i], size);
      look(MergeBlock<Real>{first + done, size, x.data(), out, &scratch});
    }
  }

  static std::size_t item_of(const MergeInput& input) {
    return dtype_info(part_dtype(input.dtype)).item_size;
  }

  const MergeJob& job_;
  const MergeKernels<Real>& kernels_;
  std::uint64_t numbers_;
  std::size_t item_;                        ///< bytes of a number of the result
  std::uint64_t chunk_size_ = kMergeChunk;  ///< numbers
  std::uint64_t row_ = 0;                   ///< blocks end where rows of so many numbers do; 0: they needn't

 private:
  static constexpr std::size_t kStripBytes = std::size_t{512} << 10U;  // half of a processor's second cache

  void decode(const MergeInput& input, const std::byte* raw, std::uint64_t first, Real* out,
              std::size_t count) const {
    kernels_.decode(part_dtype(input.dtype), raw + first * item_of(input), out, count);
    if (input.lazy.negative) kernels_.negate(out, count, 0, 1);
    if (input.lazy.conjugate) kernels_.negate(out, count, 1, 2);
  }

  void add_products(const MergeBlock<Real>& block, std::vector<double>& sums) const {
    const auto inputs = job_.inputs.size();
    if (of_pairs_) return kernels_.gram(inputs, block.x, sums.data(), block.count);
    for (std::size_t i = 0; i < inputs; ++i) {
      sums[2 * i] += kernels_.dot(block.x[i], block.x[0], block.count);
      sums[2 * i + 1] += kernels_.dot(block.x[i], block.x[i], block.count);
    }
  }

  CkptKernelCall call_of(const BackendPass& pass, const std::vector<CkptValues>& inputs,
                         std::uint64_t first) const {
    const auto accumulate = sizeof(Real) == sizeof(float) ? CKPT_FLOAT32 : CKPT_FLOAT64;
    return {sizeof(CkptKernelCall),
            pass.kernel,
            accumulate,
            device_dtype(part_dtype(job_.dtype), false),
            inputs.data(),
            inputs.size(),
            pass.parameters.data(),
            pass.parameters.size(),
            pass.masks.data(),
            pass.masks.size(),
            first,
            nullptr};
  }

  /// The inputs of a pass, as they lie in `scratch`, or without data.
  std::vector<CkptValues> values_of(const BackendPass& pass, MergeScratch* scratch,
                                    std::uint64_t count) const {
    std::vector<CkptValues> values;
    for (const auto i : pass.inputs) {
      void* const data = scratch == nullptr ? nullptr : scratch->raw[i].data();
      values.push_back({data, 0, count, device_dtype(part_dtype(job_.inputs[i].dtype), false), -1});
    }
    return values;
  }

  /// A pass that the back end makes, or none.
  std::optional<BackendPass> if_elsewhere(std::optional<BackendPass> pass) const {
    const auto is_changed = [](const MergeInput& input) {
      return input.lazy.negative || input.lazy.conjugate;
    };
    if (std::any_of(job_.inputs.begin(), job_.inputs.end(), is_changed)) return std::nullopt;
    if (pass && !backend_->supports(call_of(*pass, values_of(*pass, nullptr, 0), 0))) pass.reset();
    return pass;
  }

  Status combine_elsewhere(const BackendPass& pass, std::uint64_t first, std::uint64_t count,
                           MergeScratch& scratch) const {
    const auto values = values_of(pass, &scratch, count);
    const auto call = call_of(pass, values, first);
    return backend_->combine(call, {scratch.out.data(), 0, count, call.target_dtype, -1});
  }

  const TensorBackend* backend_ = nullptr;
  std::uint64_t strip_;  ///< numbers that are read at once
  bool of_pairs_;        ///< inner products of every pair; else of each input with the first and with itself
  std::atomic<bool> gram_is_known_ = false;
  std::atomic<std::uint64_t> not_finite_ = 0;  ///< numbers of the result
  OrderedSums gram_;
};

/// Those around a base: every other input is a change of it.
template <typename Real>
class ChangeMerge : public FloatMerge<Real> {
 public:
  ChangeMerge(const MergeJob& job, VectorUnit unit) : FloatMerge<Real>(job, unit), base_(*job.base) {
    for (std::size_t i = 0; i < job.inputs.size(); ++i) {
      if (i != base_) others_.push_back(i);
    }
    for (const auto weight : job.parameters.weights) weights_.push_back(static_cast<Real>(weight));
    weights_.resize(others_.size(), Real{1});
  }

 protected:
  /// Inputs become their differences to the base.
  std::vector<const Real*> changes(const MergeBlock<Real>& block) const {
    std::vector<const Real*> out;
    out.reserve(others_.size());
    for (const auto i : others_) {
      this->kernels_.subtract(block.x[i], block.x[base_], block.x[i], block.count);
      out.push_back(block.x[i]);
    }
    return out;
  }

  /// The base, and what is a change of it.
  std::vector<std::size_t> base_first() const {
    std::vector<std::size_t> out{base_};
    out.insert(out.end(), others_.begin(), others_.end());
    return out;
  }

  /// A kernel that takes a weight for each change, and then these.
  BackendPass pass_of(CkptKernel kernel, std::initializer_list<double> more) const {
    BackendPass out{kernel, base_first(), {weights_.begin(), weights_.end()}, {}};
    out.parameters.insert(out.parameters.end(), more.begin(), more.end());
    return out;
  }

  TaskSum<Real> task(const std::vector<const Real*>& changes, const MergeBlock<Real>& block) const {
    TaskSum<Real> out;
    out.inputs = changes.size();
    out.changes = changes.data();
    out.weights = weights_.data();
    out.base = block.x[base_];
    return out;
  }

  std::size_t base_;
  std::vector<std::size_t> others_;
  std::vector<Real> weights_;  ///< by other
};

}  // namespace ckpt
