// SPDX-License-Identifier: BSD-3-Clause
// Times merges of files of plain numbers, without writing: merge_bench METHOD DTYPE THREADS FILE... . Each
// file is one tensor with rows of 4096.
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <iostream>

#include "ckpt/compute/merged_source.h"

using namespace ckpt;

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const auto method = merge_method_by_name(argv[1]);
  const auto dtype = dtype_by_name(argv[2]);
  if (!method || !dtype) return 2;
  const auto item = dtype_info(*dtype).item_size;
  MergeJob job;
  job.name = "weight";
  job.method = *method;
  job.dtype = *dtype;
  if (std::getenv("FLOAT32") != nullptr) job.accumulate = Accumulate::kFloat32;
  for (int i = 4; i < argc; ++i) {
    auto source = open_file_source(argv[i]);
    if (!source.ok()) return 2;
    MergeInput input;
    input.source = *source;
    input.dtype = *dtype;
    input.file = job.inputs.size();
    job.inputs.push_back(input);
  }
  const auto numel = job.inputs[0].source->size() / item;
  const auto row = std::getenv("FLAT") != nullptr ? numel : std::min<std::uint64_t>(numel, 4096);
  job.shape = {static_cast<std::int64_t>(numel / row), static_cast<std::int64_t>(row)};
  const auto& info = merge_method_info(*method);
  if (info.base == MergeBase::kRequired) job.base = 0;
  job.parameters = preset_parameters(*method, info.counting(job.inputs.size(), job.base.has_value()));
  for (auto& density : job.parameters.densities) density = 0.5;
  if (info.has(MergeParameter::kT)) job.parameters[MergeParameter::kT] = 0.3;
  MergedSource merged("merged", std::nullopt);
  if (const auto status = check_merge_job(job); !status.ok()) {
    std::cerr << status.error().text() << '\n';
    return 1;
  }
  const Extent all = merged.add(std::move(job));
  ComputeOptions options;
  options.threads = static_cast<std::size_t>(std::atoi(argv[3]));
  const auto deliver = [](std::size_t, std::uint64_t, ByteView) { return Status(); };
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto status = merged.produce(std::span(&all, 1), options, deliver, [] {});
    if (!status.ok()) {
      std::cerr << status.error().text() << '\n';
      return 1;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::cout << argv[1] << ' ' << argv[2] << ' ' << took.count() << " s, " << usage.ru_maxrss / 1024
              << " MB, cosine " << merged.measures()[0].cosine(0, 1) << '\n';
  }
}
