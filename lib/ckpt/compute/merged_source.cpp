// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merged_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "ckpt/compute/merge_delivery.h"
#include "ckpt/compute/tensor_merge.h"
#include "ckpt/compute/workers.h"

namespace ckpt {
namespace {

/// Scratch of threads that ended, for those that begin.
class ScratchPool {
 public:
  std::unique_ptr<MergeScratch> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<MergeScratch>();
    auto out = std::move(free_.back());
    free_.pop_back();
    return out;
  }

  void give(std::unique_ptr<MergeScratch> scratch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(scratch));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<MergeScratch>> free_;
};

/// What a thread has from its first job to its last.
class Borrowed {
 public:
  Borrowed() = default;
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  ~Borrowed() {
    if (scratch_ != nullptr) pool_->give(std::move(scratch_));
  }

  MergeScratch& from(ScratchPool& pool) {
    if (scratch_ == nullptr) {
      pool_ = &pool;
      scratch_ = pool.take();
    }
    return *scratch_;
  }

 private:
  ScratchPool* pool_ = nullptr;
  std::unique_ptr<MergeScratch> scratch_;
};

/// Which pieces want bytes of a stretch.
class Pieces {
 public:
  explicit Pieces(std::span<const Extent> pieces) : pieces_(pieces), order_(pieces.size()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::sort(order_.begin(), order_.end(),
              [&](std::size_t a, std::size_t b) { return pieces[a].offset < pieces[b].offset; });
    std::uint64_t farthest = 0;
    for (const auto piece : order_) {
      farthest = std::max(farthest, pieces[piece].end());
      farthest_.push_back(farthest);
    }
  }

  /// `use(piece, part)` for the part of each piece that lies in `extent`; until one fails.
  template <typename Use>
  Status with(Extent extent, const Use& use) const {
    const auto behind =
        std::lower_bound(order_.begin(), order_.end(), extent.end(),
                         [&](std::size_t piece, std::uint64_t end) { return pieces_[piece].offset < end; });
    for (auto i = static_cast<std::size_t>(behind - order_.begin());
         i-- > 0 && farthest_[i] > extent.offset;) {
      const auto& piece = pieces_[order_[i]];
      const auto first = std::max(piece.offset, extent.offset);
      const auto end = std::min(piece.end(), extent.end());
      if (first < end) CKPT_RETURN_IF_ERROR(use(order_[i], Extent{first, end - first}));
    }
    return {};
  }

  bool want(Extent extent) const {
    bool found = false;
    const auto status = with(extent, [&](std::size_t, Extent) -> Status {
      found = true;
      return {};
    });
    return found && status.ok();
  }

 private:
  std::span<const Extent> pieces_;
  std::vector<std::size_t> order_;       ///< by offset
  std::vector<std::uint64_t> farthest_;  ///< end of any up to this one
};

/// Sums over tensors of what two files hold.
struct Relation {
  double product = 0;
  double squares = 0;
  double other_squares = 0;

  double cosine() const { return product / std::sqrt(squares) / std::sqrt(other_squares); }
};

/// Every pass over the inputs, by this thread alone. Then chunks can be combined.
Status reduce_alone(TensorMerge& merge, MergeScratch& scratch) {
  while (true) {
    CKPT_ASSIGN_OR_RETURN(const auto parts, merge.next_pass());
    if (parts == 0) return {};
    for (std::uint64_t part = 0; part < parts; ++part) CKPT_RETURN_IF_ERROR(merge.reduce(part, scratch));
  }
}

}  // namespace

std::uint64_t MergeJob::numel() const {
  return std::accumulate(
      shape.begin(), shape.end(), std::uint64_t{1},
      [](std::uint64_t product, std::int64_t size) { return product * static_cast<std::uint64_t>(size); });
}

double MergeMeasures::product(std::size_t a, std::size_t b) const {
  const auto low = std::min(a, b);
  const auto high = std::max(a, b);
  if (of_pairs) return gram[high * (high + 1) / 2 + low];
  if (low == 0) return gram[2 * high];
  return low == high ? gram[2 * high + 1] : std::numeric_limits<double>::quiet_NaN();
}

double MergeMeasures::norm(std::size_t input) const {
  return std::sqrt(product(input, input));
}

double MergeMeasures::cosine(std::size_t a, std::size_t b) const {
  return product(a, b) / norm(a) / norm(b);
}

/// One call of `produce`.
class MergedSource::Work {
 public:
  Work(const MergedSource& source, std::span<const Extent> pieces, const ComputeOptions& options,
       const Deliver& deliver, const std::function<void()>& report)
      : source_(source),
        pieces_(pieces),
        wanted_(pieces),
        threads_(options.threads),
        backend_(options.backend.get()),
        deliver_(deliver),
        report_(report) {}

  /// Most tensors by whoever is free, small ones in runs; then by all each one that nobody can be waited for
  /// to do alone.
  Status run() {
    std::vector<std::size_t> jobs;
    std::uint64_t together = 0;
    for (std::size_t job = 0; job < source_.jobs_.size(); ++job) {
      if (!wanted_.want(source_.extents_[job])) continue;
      jobs.push_back(job);
      together += source_.jobs_[job].numel();
    }
    const auto most_alone = std::clamp(together / kLeastRounds, kMergeChunk, kMostAlone);
    std::vector<std::vector<std::size_t>> runs;
    std::uint64_t size = kMergeChunk;
    std::vector<std::size_t> large;
    for (const auto job : jobs) {
      const auto numel = source_.jobs_[job].numel();
      if (numel > most_alone) {
        large.push_back(job);
        continue;
      }
      if (size + numel > kMergeChunk || runs.back().size() >= kMostInRun) {
        runs.emplace_back();
        size = 0;
      }
      runs.back().push_back(job);
      size += numel;
    }
    const auto merge_run = [&](std::size_t run, Borrowed& own) -> Status {
      for (const auto job : runs[run]) CKPT_RETURN_IF_ERROR(merge_alone(job, own.from(scratches_)));
      return {};
    };
    CKPT_RETURN_IF_ERROR(Workers(threads_, runs.size()).run_with<Borrowed>(merge_run, report_));
    for (const auto job : large) CKPT_RETURN_IF_ERROR(merge_together(job));
    return {};
  }

 private:
  static constexpr std::size_t kMostInRun = 256;
  static constexpr std::uint64_t kLeastRounds = 64;  ///< so that threads end at about the same time
  static constexpr std::uint64_t kMostAlone = std::uint64_t{4}
                                              << 20U;  ///< values: each thread has memory for its own

  Status merge_alone(std::size_t job, MergeScratch& scratch) {
    CKPT_ASSIGN_OR_RETURN(const auto merge, make_tensor_merge(source_.jobs_[job], source_.unit_));
    merge->combine_with(backend_);
    CKPT_RETURN_IF_ERROR(reduce_alone(*merge, scratch));
    MergeDelivery delivery(source_.jobs_[job]);
    for (std::uint64_t chunk = 0; chunk < merge->chunks(); ++chunk)
      CKPT_RETURN_IF_ERROR(combine(job, *merge, chunk, scratch, delivery));
    return note_measures(job, *merge);
  }

  Status merge_together(std::size_t job) {
    CKPT_ASSIGN_OR_RETURN(const auto merge, make_tensor_merge(source_.jobs_[job], source_.unit_));
    merge->combine_with(backend_);
    while (true) {
      CKPT_ASSIGN_OR_RETURN(const auto parts, merge->next_pass());
      if (parts == 0) break;
      const auto reduce = [&](std::size_t part, Borrowed& own) {
        return merge->reduce(part, own.from(scratches_));
      };
      CKPT_RETURN_IF_ERROR(Workers(threads_, parts).run_with<Borrowed>(reduce, report_));
    }
    MergeDelivery delivery(source_.jobs_[job]);
    std::vector<std::uint64_t> chunks;
    for (std::uint64_t chunk = 0; chunk < merge->chunks(); ++chunk) {
      const auto extent = merge->chunk(chunk);
      if (!delivery.is_direct() || wanted_.want({source_.extents_[job].offset + extent.offset, extent.size}))
        chunks.push_back(chunk);
    }
    const auto combine_one = [&](std::size_t i, Borrowed& own) {
      return combine(job, *merge, chunks[i], own.from(scratches_), delivery);
    };
    Workers workers(delivery.most_threads(threads_), chunks.size());
    CKPT_RETURN_IF_ERROR(workers.run_with<Borrowed>(combine_one, report_));
    return note_measures(job, *merge);
  }

  Status combine(std::size_t job, TensorMerge& merge, std::uint64_t chunk, MergeScratch& scratch,
                 MergeDelivery& delivery) {
    const auto start = source_.extents_[job].offset;
    const TensorMerge::Emit hand_over = [&](std::uint64_t offset, ByteView bytes) {
      return wanted_.with({start + offset, bytes.size()}, [&](std::size_t piece, Extent part) {
        return deliver_(piece, part.offset - pieces_[piece].offset,
                        bytes.subspan(part.offset - start - offset, part.size));
      });
    };
    return merge.combine(chunk, scratch, [&](std::uint64_t offset, ByteView bytes) {
      return delivery.take(offset, bytes, hand_over);
    });
  }

  Status note_measures(std::size_t job, const TensorMerge& merge) {
    auto& measures = source_.measures_[job];  // each job is one thread's
    measures = merge.measures();
    measures.not_finite = merge.not_finite();
    return {};
  }

  const MergedSource& source_;
  std::span<const Extent> pieces_;
  Pieces wanted_;
  std::size_t threads_;
  const TensorBackend* backend_;
  const Deliver& deliver_;
  const std::function<void()>& report_;
  ScratchPool scratches_;
};

/// The tensor that `read_at` is in, and the stretch of it that was combined last.
class MergedSource::Reading {
 public:
  explicit Reading(const MergedSource& source) : source_(source) {}

  /// The stretch that holds `offset`, in the source.
  Status go_to(std::uint64_t offset) {
    if (offset >= extent_.offset && offset < extent_.end()) return {};
    extent_ = {};  // until it is whole
    const auto job = source_.job_at(offset);
    if (merge_ == nullptr || job_ != job) CKPT_RETURN_IF_ERROR(begin(job));
    return combine_around(offset);
  }

  /// Of the stretch, what lies from `offset` on.
  ByteView from(std::uint64_t offset) const { return ByteView(bytes_).subspan(offset - extent_.offset); }

 private:
  Status begin(std::size_t job) {
    merge_ = nullptr;
    CKPT_ASSIGN_OR_RETURN(auto merge, make_tensor_merge(source_.jobs_[job], source_.unit_));
    CKPT_RETURN_IF_ERROR(reduce_alone(*merge, scratch_));
    merge_ = std::move(merge);
    job_ = job;
    return {};
  }

  /// Chunks may reach beyond the stretch, at both ends.
  Status combine_around(std::uint64_t offset) {
    const auto start = source_.extents_[job_].offset;
    MergeDelivery delivery(source_.jobs_[job_]);
    const auto [stretch, taken] = delivery.stretch_at(*merge_, offset - start);
    bytes_.resize(stretch.size);
    const TensorMerge::Emit keep = [&, stretch = stretch](std::uint64_t place, ByteView bytes) -> Status {
      const auto first = std::max(place, stretch.offset);
      const auto end = std::min(place + bytes.size(), stretch.end());
      if (first < end)
        std::memcpy(bytes_.data() + (first - stretch.offset), bytes.data() + (first - place), end - first);
      return {};
    };
    const auto deliver = [&](std::uint64_t place, ByteView bytes) {
      return delivery.take(place, bytes, keep);
    };
    const auto behind = merge_->chunk_at(taken.end() - 1) + 1;
    for (auto chunk = merge_->chunk_at(taken.offset); chunk < behind; ++chunk)
      CKPT_RETURN_IF_ERROR(merge_->combine(chunk, scratch_, deliver));
    extent_ = {start + stretch.offset, stretch.size};
    return {};
  }

  const MergedSource& source_;
  std::size_t job_ = 0;
  std::unique_ptr<TensorMerge> merge_;
  MergeScratch scratch_;
  Extent extent_;  ///< in the source
  Bytes bytes_;
};

MergedSource::MergedSource(std::string name, std::optional<double> least_cosine, VectorUnit unit)
    : name_(std::move(name)), least_cosine_(least_cosine), unit_(unit) {}

MergedSource::~MergedSource() = default;

Extent MergedSource::add(MergeJob job) {
  const auto& info = dtype_info(job.dtype);
  const auto items = (job.numel() + info.values_per_item - 1) / info.values_per_item;
  const Extent extent{size_, items * info.item_size};
  size_ += extent.size;
  jobs_.push_back(std::move(job));
  extents_.push_back(extent);
  measures_.emplace_back();
  return extent;
}

/// LoRA's adapters are not of the tensor's size: they come from files as they are.
void MergedSource::add_inputs(Extent wanted, std::vector<SourceStretch>& out) const {
  for (auto job = job_at(wanted.offset); job < jobs_.size() && extents_[job].offset < wanted.end(); ++job) {
    const auto& inputs = jobs_[job].inputs;
    const auto count =
        jobs_[job].method == MergeMethod::kLora ? std::min<std::size_t>(inputs.size(), 1) : inputs.size();
    for (std::size_t i = 0; i < count; ++i)
      out.push_back({inputs[i].source.get(),
                     {inputs[i].offset, jobs_[job].numel() * dtype_info(inputs[i].dtype).item_size}});
  }
}

/// That `offset` lies in.
std::size_t MergedSource::job_at(std::uint64_t offset) const {
  const auto holder =
      std::upper_bound(extents_.begin(), extents_.end(), offset,
                       [](std::uint64_t wanted, const Extent& extent) { return wanted < extent.end(); });
  return static_cast<std::size_t>(holder - extents_.begin());
}

Status MergedSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
  const std::lock_guard lock(mutex_);
  if (reading_ == nullptr) reading_ = std::make_unique<Reading>(*this);
  while (!out.empty()) {
    CKPT_RETURN_IF_ERROR(reading_->go_to(offset));
    const auto bytes = reading_->from(offset);
    const auto size = std::min(out.size(), bytes.size());
    std::memcpy(out.data(), bytes.data(), size);
    out = out.subspan(size);
    offset += size;
  }
  return {};
}

Status MergedSource::produce(std::span<const Extent> pieces, const ComputeOptions& options,
                             const Deliver& deliver, const std::function<void()>& report) const {
  for (const auto& piece : pieces) CKPT_RETURN_IF_ERROR(require(piece));
  for (auto& measures : measures_) measures = {};
  CKPT_RETURN_IF_ERROR(Work(*this, pieces, options, deliver, report).run());
  return check_relation();
}

double MergedSource::total_cosine(std::size_t file, std::size_t other) const {
  Relation sum;
  for (std::size_t job = 0; job < jobs_.size(); ++job) {
    const auto& measures = measures_[job];
    if (!measures.known) continue;
    const auto& inputs = jobs_[job].inputs;
    const auto with_file = [&](std::size_t wanted) {
      return static_cast<std::size_t>(
          std::find_if(inputs.begin(), inputs.end(),
                       [&](const MergeInput& input) { return input.file == wanted; }) -
          inputs.begin());
    };
    const auto a = with_file(file);
    const auto b = with_file(other);
    if (a == inputs.size() || b == inputs.size()) continue;
    const auto product = measures.product(a, b);
    const auto squares = measures.product(a, a);
    const auto other_squares = measures.product(b, b);
    if (!std::isfinite(product) || !std::isfinite(squares) || !std::isfinite(other_squares)) continue;
    sum.product += product;
    sum.squares += squares;
    sum.other_squares += other_squares;
  }
  return sum.cosine();
}

Status MergedSource::check_relation() const {
  if (!least_cosine_) return {};
  std::vector<std::pair<std::size_t, std::string>> files;  // names, by number
  for (const auto& job : jobs_) {
    for (const auto& input : job.inputs) {
      const auto known =
          std::any_of(files.begin(), files.end(), [&](const auto& file) { return file.first == input.file; });
      if (!known) files.emplace_back(input.file, input.source->name());
    }
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto others = files.size() <= kMostPairedInputs ? i : std::min<std::size_t>(i, 1);
    for (std::size_t j = 0; j < others; ++j) {
      const auto cosine = total_cosine(files[j].first, files[i].first);
      if (!(cosine < *least_cosine_)) continue;  // nothing in common is no cosine
      return Error(
                 ErrorCode::kRefused,
                 fmt::format("'{}' and '{}' are not related: the cosine of their values is {:.3f}, which is "
                             "less than {}",
                             files[j].second, files[i].second, cosine, *least_cosine_))
          .with_hint("--allow-unrelated merges them all the same");
    }
  }
  return {};
}

}  // namespace ckpt
