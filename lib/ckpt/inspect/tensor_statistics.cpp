// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/tensor_statistics.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <utility>

#include "ckpt/base/checked_math.h"
#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/compute/workers.h"
#include "ckpt/inspect/values.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kStretch = std::uint64_t{8} << 20U;  ///< bytes that one thread takes at a time
constexpr std::uint64_t kMostOverlaps = 8;                   ///< elements of a view for each that it reaches

/// Where the values of a tensor are read, each element once.
struct Values {
  std::shared_ptr<const ByteSource> source;
  Extent extent;
  Dtype dtype = Dtype::kUint8;
  bool swapped = false;
  bool is_gathered = false;  ///< to be read from the beginning to the end
  std::uint64_t times = 1;   ///< that each element stands in the tensor
  bool negated = false;      ///< floats
  LazyBits lazy = {};        ///< of integers, which wrap when they are negated
};

/// Dimensions that move through the storage.
struct Dimensions {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::uint64_t times = 1;  ///< product of the sizes of those that don't
};

Dimensions moving_dimensions(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const auto shape = checkpoint.shape(tensor);
  const auto strides = checkpoint.strides(tensor);
  Dimensions out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    if (strides[i] == 0) {
      out.times = checked_multiply(out.times, static_cast<std::uint64_t>(shape[i])).value_or(0);
      continue;
    }
    out.shape.push_back(shape[i]);
    out.strides.push_back(strides[i]);
  }
  return out;
}

/// Elements from the first to the last.
std::uint64_t reach(const Dimensions& dimensions) {
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < dimensions.shape.size(); ++i)
    last += static_cast<std::uint64_t>(dimensions.shape[i] - 1) *
            static_cast<std::uint64_t>(dimensions.strides[i]);
  return last + 1;
}

/// Fills `values`, or says why there are none.
Result<std::string_view> find_values(const Checkpoint& checkpoint, const TensorInfo& tensor, Values& values) {
  if (tensor.layout != TensorLayout::kStrided) return std::string_view("composite");
  if (tensor.storage == kNoIndex) return std::string_view("no-data");
  const auto& info = dtype_info(tensor.dtype);
  if (!has_statistics(tensor.dtype) || info.values_per_item > 1) return std::string_view("dtype");
  values.dtype = tensor.dtype;
  values.negated = tensor.has(kNegative) && info.dtype_class == DtypeClass::kFloat;
  if (info.dtype_class == DtypeClass::kInteger) values.lazy = lazy_bits_of(tensor);
  values.swapped = has_turned_bytes(checkpoint, tensor);
  if (checkpoint.numel(tensor) == 0) return std::string_view();
  auto place = storage_extent(checkpoint, tensor.storage);
  if (!place.ok() && place.error().code() == ErrorCode::kUnsupported) return std::string_view("compressed");
  CKPT_RETURN_IF_ERROR(place);
  values.source = checkpoint.parts.front().source;
  auto dimensions = moving_dimensions(checkpoint, tensor);
  values.times = dimensions.times;
  std::uint64_t numel = 1;
  for (const auto size : dimensions.shape)
    numel = checked_multiply(numel, static_cast<std::uint64_t>(size))
                .value_or(std::numeric_limits<std::uint64_t>::max());
  if (values.times == 0 || numel / kMostOverlaps > reach(dimensions)) return std::string_view("overlapping");
  if (dense_order(dimensions.shape, dimensions.strides)) {
    values.extent = {place->offset + tensor.offset * info.item_size, numel * info.item_size};
    return std::string_view();
  }
  auto gathered = std::make_shared<GatheredSource>(values.source->name());
  values.extent = gathered->add({values.source, place->offset, tensor.offset, std::move(dimensions.shape),
                                 std::move(dimensions.strides), tensor.dtype, tensor.dtype, values.swapped});
  values.source = std::move(gathered);
  values.swapped = false;
  values.is_gathered = true;
  return std::string_view();
}

/// A stretch of a tensor's bytes.
struct Job {
  std::size_t tensor;  ///< index among those asked for
  Extent extent;
};

class Reader {
 public:
  Reader(const Checkpoint& checkpoint, std::span<const TensorId> tensors, const StatisticsOptions& options,
         Progress* progress)
      : checkpoint_(checkpoint), tensors_(tensors), options_(options), progress_(progress) {}

  Result<std::vector<TensorStatistics>> run() {
    CKPT_RETURN_IF_ERROR(list_jobs());
    CKPT_RETURN_IF_ERROR(add_up());
    if (options_.bins > 0) CKPT_RETURN_IF_ERROR(fill_bins());
    return std::move(results_);
  }

 private:
  Status list_jobs() {
    values_.resize(tensors_.size());
    results_.resize(tensors_.size());
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      auto& values = values_[i];
      CKPT_ASSIGN_OR_RETURN(results_[i].missing,
                            find_values(checkpoint_, checkpoint_.tensors[tensors_[i]], values));
      if (!results_[i].missing.empty()) continue;
      const auto step = values.is_gathered ? values.extent.size : kStretch;
      for (std::uint64_t done = 0; done < values.extent.size; done += step)
        jobs_.push_back({i, {values.extent.offset + done, std::min(step, values.extent.size - done)}});
      total_ += values.extent.size;
    }
    if (options_.bins > 0) total_ *= 2;
    return {};
  }

  Status add_up() {
    std::vector<Statistics> parts(jobs_.size());
    const auto work = [&](std::size_t job, std::span<std::byte> buffer) {
      return read(jobs_[job], buffer, [&](Dtype dtype, std::span<const std::byte> bytes) {
        add_statistics(parts[job], statistics_of(dtype, bytes));
      });
    };
    CKPT_RETURN_IF_ERROR(run_jobs(work));
    for (std::size_t i = 0; i < jobs_.size(); ++i) add_statistics(results_[jobs_[i].tensor].values, parts[i]);
    for (std::size_t i = 0; i < results_.size(); ++i) {
      auto& result = results_[i];
      if (!result.missing.empty()) continue;
      if (dtype_info(values_[i].dtype).dtype_class == DtypeClass::kComplex) result.values.is_real = false;
      repeat_statistics(result.values, values_[i].times);
      if (values_[i].negated) negate_statistics(result.values);
    }
    return {};
  }

  Status fill_bins() {
    for (auto& result : results_) {
      const auto range = finite_range(result.values);
      if (range) result.histogram.emplace(range->first, range->second, options_.bins);
    }
    std::mutex mutex;
    const auto work = [&](std::size_t job, std::span<std::byte> buffer) -> Status {
      auto& sum = results_[jobs_[job].tensor].histogram;
      if (!sum) return {};
      const bool negated = values_[jobs_[job].tensor].negated;
      Histogram part(sum->low(), sum->high(), options_.bins);
      CKPT_RETURN_IF_ERROR(read(jobs_[job], buffer, [&](Dtype dtype, std::span<const std::byte> bytes) {
        part.add(dtype, bytes, negated);
      }));
      const std::lock_guard lock(mutex);
      sum->add(part);
      return {};
    };
    CKPT_RETURN_IF_ERROR(run_jobs(work));
    for (std::size_t i = 0; i < results_.size(); ++i) {
      if (!results_[i].histogram) continue;
      for (auto& count : results_[i].histogram->counts()) count *= values_[i].times;
    }
    return {};
  }

  /// From the smallest to the largest; nothing where one of them is infinite, as torch.histc says too.
  static std::optional<std::pair<double, double>> finite_range(const Statistics& values) {
    if (!values.is_real || !values.minimum || values.infinities > 0) return std::nullopt;
    return std::pair(as_double(*values.minimum), as_double(*values.maximum));
  }

  template <typename Work>
  Status run_jobs(const Work& work) {
    Workers workers(options_.threads, jobs_.size());
    return workers.run(work, [&] {
      if (progress_ != nullptr) progress_->report(done_, total_);
    });
  }

  template <typename Use>
  Status read(const Job& job, std::span<std::byte> buffer, const Use& use) {
    const auto& values = values_[job.tensor];
    for (std::uint64_t done = 0; done < job.extent.size;) {
      const auto piece = buffer.first(std::min<std::uint64_t>(buffer.size(), job.extent.size - done));
      CKPT_RETURN_IF_ERROR(values.source->read_at(job.extent.offset + done, piece));
      if (values.swapped) swap_byte_order(values.dtype, piece);
      resolve_lazy_bits(values.dtype, values.lazy, piece);
      use(values.dtype, piece);
      done += piece.size();
      done_ += piece.size();
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  std::span<const TensorId> tensors_;
  const StatisticsOptions& options_;
  Progress* progress_;
  std::vector<Values> values_;  ///< by tensor asked for, as the results
  std::vector<TensorStatistics> results_;
  std::vector<Job> jobs_;
  std::atomic<std::uint64_t> done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

Result<std::vector<TensorStatistics>> tensor_statistics(const Checkpoint& checkpoint,
                                                        std::span<const TensorId> tensors,
                                                        const StatisticsOptions& options,
                                                        Progress* progress) {
  return Reader(checkpoint, tensors, options, progress).run();
}

}  // namespace ckpt
