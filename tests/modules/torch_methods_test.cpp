// SPDX-License-Identifier: BSD-3-Clause
// Whole merges with LibTorch: the same bytes as without it, whether it makes the pass or declines it. On the
// processor, or with CKPT_TEST_GPU=1 on a GPU.
#include <cmath>
#include <cstdlib>
#include <set>
#include <string>

#include "ckpt/compute/device_backend.h"
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

std::shared_ptr<const TensorBackend> open_torch(DeviceSums sums) {
  const bool on_gpu = std::getenv("CKPT_TEST_GPU") != nullptr;
  const auto opened =
      TorchModule::open(LibTorchSearch::from_environment(""), on_gpu ? TorchUse::kGpu : TorchUse::kProcessor);
  if (!opened.ok()) FAIL(opened.error().text());
  if (!on_gpu) return opened.value();
  const auto device = Device::open(0);
  if (!device.ok()) FAIL(device.error().text());
  return std::make_shared<const DeviceBackend>(opened.value(), device.value(), sums);
}

const TensorBackend& torch() {
  static const auto opened = open_torch(DeviceSums::kNo);
  return *opened;
}

/// The same, as if the user had asked for its sums.
class TorchSums final : public TensorBackend {
 public:
  std::string name() const override { return torch_->name(); }

  std::uint64_t preferred_count() const override { return torch_->preferred_count(); }

  bool supports(const CkptKernelCall& call) const override { return torch_->supports(call); }

  bool makes_sums() const override { return true; }

  Status combine(const CkptKernelCall& call, const CkptValues& target) const override {
    return torch_->combine(call, target);
  }

  Status reduce(const CkptKernelCall& call, std::span<double> results) const override {
    return torch_->reduce(call, results);
  }

 private:
  std::shared_ptr<const TensorBackend> torch_ = open_torch(DeviceSums::kYes);
};

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

TEST_CASE("with sums of LibTorch results are the same up to the last bits", "[torch]") {
  const TorchSums asked;
  for (const auto method : {MergeMethod::kSlerp, MergeMethod::kNuslerp, MergeMethod::kMultislerp,
                            MergeMethod::kKarcher, MergeMethod::kModelStock}) {
    const auto job = some_job(merge_method_info(method), Dtype::kFloat32);
    CAPTURE(merge_method_info(method).name);
    const auto native = merged(job, 2);
    REQUIRE(native.status.ok());
    const auto summed = asked.summed();
    const auto found = merged(job, 2, best_vector_unit(), &asked);
    if (!found.status.ok()) FAIL(found.status.error().text());
    CHECK(asked.summed() - summed == kCount);
    const auto expected = numbers_of(Dtype::kFloat32, native.bytes);
    CHECK(distance(numbers_of(Dtype::kFloat32, found.bytes), {expected.begin(), expected.end()}) < 1e-6);
    CHECK(merged(job, 1, best_vector_unit(), &asked).bytes == found.bytes);
  }
}

TEST_CASE("tensors that lie in another order are the same with LibTorch", "[torch]") {
  for (const auto method : {MergeMethod::kTies, MergeMethod::kDareTies, MergeMethod::kBreadcrumbs}) {
    auto job = some_job(merge_method_info(method), Dtype::kFloat32);
    job.shape = {500, kCount / 500};
    job.axes = {1, 0};
    CAPTURE(merge_method_info(method).name);
    const auto native = merged(job);
    REQUIRE(native.status.ok());
    const auto computed = torch().computed();
    CHECK(merged(job, 2, best_vector_unit(), &torch()).bytes == native.bytes);
    const bool is_random = method == MergeMethod::kDareTies;  // places come in runs, which it can't be told
    CHECK(torch().computed() - computed == (is_random ? 0 : kCount));
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
