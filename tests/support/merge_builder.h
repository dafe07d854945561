// SPDX-License-Identifier: BSD-3-Clause
// Merges of tensors whose numbers a test writes down, and the same by plain loops in long double.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ckpt/compute/merge_kernels.h"
#include "ckpt/compute/merged_source.h"

namespace ckpt::test {

using Numbers = std::vector<double>;

inline Bytes stored(Dtype dtype, const Numbers& numbers) {
  Bytes out(numbers.size() * dtype_info(dtype).item_size);
  for (std::size_t i = 0; i < numbers.size(); ++i)
    merge_kernels<double>(VectorUnit::kBaseline)
        .encode(dtype, &numbers[i], out.data() + i * dtype_info(dtype).item_size, 1);
  return out;
}

inline Numbers numbers_of(Dtype dtype, ByteView bytes) {
  const auto item = dtype_info(dtype).item_size;
  Numbers out;
  alignas(64) double one[16];
  for (std::size_t at = 0; at < bytes.size(); at += item) {
    merge_kernels<double>(VectorUnit::kBaseline).decode(dtype, bytes.data() + at, one, 1);
    out.push_back(one[0]);
  }
  return out;
}

inline MergeInput input_of(Dtype dtype, Bytes bytes, std::size_t file) {
  MergeInput out;
  const Bytes before(7);  // nothing begins at a round place
  append_bytes(bytes, before);
  out.source = std::make_shared<MemorySource>("file" + std::to_string(file), std::move(bytes));
  out.dtype = dtype;
  out.file = file;
  return out;
}

/// A job of float64 tensors with presets, and a base where the method needs one.
inline MergeJob job_of(MergeMethod method, const std::vector<Numbers>& tensors,
                       Dtype dtype = Dtype::kFloat64) {
  MergeJob job;
  job.name = "weight";
  job.method = method;
  job.dtype = dtype;
  for (const auto& numbers : tensors)
    job.inputs.push_back(input_of(dtype, stored(dtype, numbers), job.inputs.size()));
  job.shape = {static_cast<std::int64_t>(tensors[0].size())};
  const auto& info = merge_method_info(method);
  if (info.base == MergeBase::kRequired) job.base = 0;
  job.parameters = preset_parameters(method, info.counting(tensors.size(), job.base.has_value()));
  return job;
}

struct Merged {
  Status status;
  Bytes bytes;
  MergeMeasures measures;
};

inline Merged merged(MergeJob job, std::size_t threads = 1, VectorUnit unit = best_vector_unit(),
                     const TensorBackend* backend = nullptr) {
  Merged out;
  out.status = check_merge_job(job);
  if (!out.status.ok()) return out;
  MergedSource source("merged", std::nullopt, unit);
  const auto extent = source.add(std::move(job));
  out.bytes.resize(extent.size);
  ComputeOptions options;
  options.threads = threads;
  options.backend = std::shared_ptr<const TensorBackend>(std::shared_ptr<void>(), backend);
  const auto deliver = [&](std::size_t, std::uint64_t offset, ByteView bytes) -> Status {
    std::copy(bytes.begin(), bytes.end(), out.bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  };
  out.status = source.produce(std::span(&extent, 1), options, deliver, [] {});
  out.measures = source.measures()[0];
  return out;
}

/// Float64 numbers of the result; empty where it failed.
inline Numbers merged_numbers(MergeJob job) {
  const auto dtype = job.dtype;
  const auto result = merged(std::move(job));
  return result.status.ok() ? numbers_of(dtype, result.bytes) : Numbers();
}

inline Numbers normal_numbers(std::size_t count, unsigned seed, double scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0, scale);
  Numbers out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(normal(generator));
  return out;
}

/// Tensors near each other, rounded to the dtype: the first is what the others are changes of.
inline std::vector<Numbers> related(std::size_t tensors, std::size_t count, Dtype dtype = Dtype::kFloat64) {
  std::vector<Numbers> out;
  const auto base = normal_numbers(count, 1);
  for (unsigned k = 0; k < tensors; ++k) {
    auto numbers = normal_numbers(count, 100 + k, 0.25);
    for (std::size_t i = 0; i < count; ++i) numbers[i] = k == 0 ? base[i] : base[i] + numbers[i];
    out.push_back(numbers_of(dtype, stored(dtype, numbers)));
  }
  return out;
}

/// Largest distance, as a share of the largest number.
inline double distance(const Numbers& a, const std::vector<long double>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) != std::isnan(b[i])) return INFINITY;
    if (std::isnan(a[i])) continue;
    worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(a[i]) - b[i])));
    largest = std::max(largest, static_cast<double>(std::fabs(b[i])));
  }
  return largest > 0 ? worst / largest : worst;
}

}  // namespace ckpt::test
