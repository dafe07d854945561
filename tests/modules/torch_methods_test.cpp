// SPDX-License-Identifier: BSD-3-Clause
// Whole merges with LibTorch: the same bytes as without it, whether it makes the pass or declines it.
#include <cmath>
#include <set>
#include <string>

#include "ckpt/compute/torch_module.h"
#include "support/catch.h"
#include "support/merge_builder.h"

namespace ckpt::test {
namespace {

constexpr std::size_t kCount = 300000;  // more than a chunk

/// Methods that it always has a pass for, with floats.
const std::set<std::string_view> kAlways = {"mean",
                                            "linear",
                                            "slerp",
                                            "nuslerp",
                                            "multislerp",
                                            "karcher",
                                            "nearswap",
                                            "triple-sum",
                                            "task-arithmetic",
                                            "dare-linear",
                                            "dare-ties",
                                            "sum-twice",
                                            "ram",
                                            "ram-plus",
                                            "sce",
                                            "weighted-subtraction"};
/// Those that it has one for unless equal magnitudes are told apart by their places.
const std::set<std::string_view> kMostly = {"ties", "breadcrumbs", "breadcrumbs-ties"};

const TensorBackend& torch() {
  static const auto opened = TorchModule::open(LibTorchSearch::from_environment(""), TorchUse::kProcessor);
  if (!opened.ok()) FAIL(opened.error().text());
  return *opened.value();
}

MergeJob some_job(const MergeMethodInfo& info, Dtype dtype) {
  const std::size_t count = info.most > 0 ? std::min<std::size_t>(info.most, 4) : 4;
  auto job = job_of(
      info.method,
      related(info.base == MergeBase::kOptional && info.most > 0 ? count - 1 : count, kCount, dtype), dtype);
  for (auto& value : job.parameters.values) {
    if (std::isnan(value)) value = 0.3;
  }
  for (std::size_t i = 0; i < job.parameters.weights.size(); ++i)
    job.parameters.weights[i] = 0.25 + 0.5 * static_cast<double>(i);
  for (auto& density : job.parameters.densities) density = 0.6;
  return job;
}

TEST_CASE("every method gives the same bytes with LibTorch", "[torch]") {
  for (const auto& info : all_merge_methods()) {
    if (info.method == MergeMethod::kLora) continue;
    const std::string name(info.name);
    CAPTURE(name);
    const auto before = torch().computed();
    for (const auto dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
      auto job = some_job(info, dtype);
      for (const auto accumulate : {Accumulate::kFloat64, Accumulate::kFloat32}) {
        job.accumulate = accumulate;
        const auto native = merged(job, 2);
        if (!native.status.ok()) FAIL(native.status.error().text());
        const auto by_torch = merged(job, 2, best_vector_unit(), &torch());
        if (!by_torch.status.ok()) FAIL(by_torch.status.error().text());
        CHECK(by_torch.bytes == native.bytes);
        CHECK(by_torch.measures.gram == native.measures.gram);
      }
    }
    const auto times = (torch().computed() - before) / kCount;
    if (kAlways.count(info.name) == 1) CHECK(times == 4);
    if (kMostly.count(info.name) == 1) CHECK(times > 0);
  }
}

TEST_CASE("values that LibTorch has no pass for are noted as left to the native kernels", "[torch]") {
  auto job = some_job(merge_method_info(MergeMethod::kMean), Dtype::kFloat32);
  job.inputs[1].lazy.negative = true;
  const auto left = torch().left();
  const auto result = merged(job, 1, best_vector_unit(), &torch());
  CHECK(result.bytes == merged(job).bytes);
  CHECK(torch().left() - left == kCount);
}

}  // namespace
}  // namespace ckpt::test
