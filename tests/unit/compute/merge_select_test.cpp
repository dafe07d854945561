// SPDX-License-Identifier: BSD-3-Clause
// sce, ram, arcee-fusion and lora against plain loops.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/catch.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Long = long double;

constexpr std::size_t kThreads[] = {1, 2, 5};

std::vector<std::vector<Long>> changes(const std::vector<Numbers>& tensors) {
  std::vector<std::vector<Long>> out;
  for (std::size_t k = 1; k < tensors.size(); ++k) {
    out.emplace_back();
    for (std::size_t i = 0; i < tensors[0].size(); ++i)
      out.back().push_back(static_cast<Long>(tensors[k][i]) - tensors[0][i]);
  }
  return out;
}

std::vector<Long> sce(const std::vector<Numbers>& tensors, double share) {
  auto all = changes(tensors);
  const auto size = tensors[0].size();
  const auto count = static_cast<Long>(all.size());
  if (share < 1) {
    std::vector<Long> variance(size);
    for (std::size_t i = 0; i < size; ++i) {
      Long mean = 0;
      for (const auto& change : all) mean += change[i] / count;
      for (const auto& change : all) variance[i] += (change[i] - mean) * (change[i] - mean) / count;
    }
    std::vector<std::size_t> order(size);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return variance[a] > variance[b]; });
    const auto kept = static_cast<std::size_t>(share * static_cast<double>(size));
    for (auto i = kept; i < size; ++i) {
      for (auto& change : all) change[order[i]] = 0;
    }
  }
  std::vector<Long> weights;
  for (const auto& change : all)
    weights.push_back(std::inner_product(change.begin(), change.end(), change.begin(), Long{0}));
  const auto sum = std::accumulate(weights.begin(), weights.end(), Long{0});
  std::vector<Long> out;
  for (std::size_t i = 0; i < size; ++i) {
    Long total = 0;
    for (const auto& change : all) total += change[i];
    Long merged = 0;
    Long divisor = 0;
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (!(total >= 0 ? all[k][i] > 0 : all[k][i] < 0)) continue;
      merged += weights[k] / sum * all[k][i];
      divisor += weights[k] / sum;
    }
    out.push_back(tensors[0][i] + merged / std::max(divisor, Long{1e-6}));
  }
  return out;
}

std::vector<Long> fusion(const std::vector<Numbers>& tensors, std::size_t row) {
  const auto softmax = [&](const Numbers& x, std::size_t first) {
    std::vector<Long> out;
    for (auto i = first; i < first + row; ++i) out.push_back(std::exp(static_cast<Long>(x[i])));
    const auto sum = std::accumulate(out.begin(), out.end(), Long{0});
    for (auto& each : out) each = each / sum + 1e-8L;
    return out;
  };
  std::vector<Long> importance;
  const auto& base = tensors[0];
  const auto& other = tensors[1];
  for (std::size_t first = 0; first < base.size(); first += row) {
    const auto p = softmax(other, first);
    const auto q = softmax(base, first);
    Long divergence = 0;
    for (std::size_t i = 0; i < row; ++i) divergence += p[i] * std::log(p[i] / q[i]);
    for (auto i = first; i < first + row; ++i)
      importance.push_back(std::fabs(static_cast<Long>(other[i]) - base[i]) * divergence);
  }
  auto sorted = importance;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  const auto threshold = at(0.5) + 1.5L * (at(0.75) - at(0.25));
  std::vector<Long> out;
  for (std::size_t i = 0; i < base.size(); ++i)
    out.push_back(importance[i] >= threshold ? other[i] : base[i]);
  return out;
}

}  // namespace

TEST_CASE("sce selects, weighs and elects", "[compute]") {
  for (const auto count : {1001U, 300'007U}) {
    const auto tensors = related(4, count);
    for (const double share : {1.0, 0.3}) {
      auto job = job_of(MergeMethod::kSce, tensors);
      job.parameters[MergeParameter::kSelectTopk] = share;
      CHECK(distance(merged_numbers(job), sce(tensors, share)) < 1e-14);
    }
  }
}

TEST_CASE("sce keeps the base where nothing is selected", "[compute]") {
  auto job = job_of(MergeMethod::kSce, {{1, 2}, {2, 2}, {2, 2}});
  job.parameters[MergeParameter::kSelectTopk] = 0.9;  // no variance at all
  CHECK(merged_numbers(job) == Numbers{1, 2});
  job.parameters[MergeParameter::kSelectTopk] = 0;
  CHECK(merged_numbers(job) == Numbers{1, 2});
  job.parameters[MergeParameter::kSelectTopk] = 1;
  CHECK(merged_numbers(job) == Numbers{2, 2});
}

TEST_CASE("ram keeps what one has alone and averages what is shared", "[compute]") {
  const std::vector<Numbers> tensors = {{0, 0, 0, 0}, {1, 2, 1e-6, 3}, {0, 4, 0, 6}, {0, 0, 0, 9}};
  auto job = job_of(MergeMethod::kRam, tensors);
  CHECK(merged_numbers(job) == Numbers{1, 3, 0, 6});
  // The first shares two and has one alone; the share is cut to alpha.
  job = job_of(MergeMethod::kRamPlus, tensors);
  CHECK(merged_numbers(job) == Numbers{1 + 0.1 * 0.2, 3, 0, 6});
  job.parameters[MergeParameter::kAlpha] = 5;
  CHECK(merged_numbers(job) == Numbers{1 + 0.1 * 2, 3, 0, 6});
}

TEST_CASE("arcee-fusion takes the changes that matter", "[compute]") {
  const auto tensors = related(2, 60 * 1100);
  auto job = job_of(MergeMethod::kArceeFusion, tensors);
  job.shape = {60, 1100};
  CHECK(distance(merged_numbers(job), fusion(tensors, 1100)) < 1e-15);
  job.shape = {6600, 10};
  CHECK(distance(merged_numbers(job), fusion(tensors, 10)) < 1e-15);
  job = job_of(MergeMethod::kArceeFusion, {{1}, {2}});
  job.shape = {};
  CHECK(merged_numbers(job) == Numbers{2});
}

TEST_CASE("lora adds scaled products of adapters", "[compute]") {
  constexpr std::size_t kOut = 7;
  constexpr std::size_t kIn = 1500;
  const auto weight = normal_numbers(kOut * kIn, 1);
  const auto a = normal_numbers(5 * kIn, 2);
  const auto b = normal_numbers(kOut * 5, 3);
  const auto c = normal_numbers(2 * kIn, 4);
  const auto d = normal_numbers(kOut * 2, 5);
  auto job = job_of(MergeMethod::kLora, {weight, a, b, c, d});
  job.shape = {kOut, kIn, 1, 1};
  job.ranks = {5, 2};
  job.parameters = preset_parameters(MergeMethod::kLora, 2);
  job.parameters.weights = {1, 0.5};
  const auto expected = [&](Long first, Long second) {
    std::vector<Long> out(weight.begin(), weight.end());
    for (std::size_t o = 0; o < kOut; ++o) {
      for (std::size_t i = 0; i < kIn; ++i) {
        for (std::size_t k = 0; k < 5; ++k) out[o * kIn + i] += first * b[o * 5 + k] * a[k * kIn + i];
        for (std::size_t k = 0; k < 2; ++k) out[o * kIn + i] += second * d[o * 2 + k] * c[k * kIn + i];
      }
    }
    return out;
  };
  CHECK(distance(merged_numbers(job), expected(1, 0.5L)) < 1e-15);
  job.parameters[MergeParameter::kAlpha] = 16;
  CHECK(distance(merged_numbers(job), expected(16 / 5.0L, 0.5L * 16 / 2)) < 1e-15);
  job.parameters[MergeParameter::kRankStabilized] = 1;
  CHECK(distance(merged_numbers(job), expected(16 / std::sqrt(5.0L), 0.5L * 16 / std::sqrt(2.0L))) < 1e-15);
  job.shape = {kOut * kIn};
  CHECK(merged(job).status.error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("selections do not depend on threads and vector units", "[compute]") {
  for (const auto method :
       {MergeMethod::kSce, MergeMethod::kRam, MergeMethod::kRamPlus, MergeMethod::kArceeFusion}) {
    auto job = job_of(method, related(method == MergeMethod::kArceeFusion ? 2 : 3, 400'000, Dtype::kFloat16),
                      Dtype::kFloat16);
    job.shape = {800, 500};
    if (method == MergeMethod::kSce) job.parameters[MergeParameter::kSelectTopk] = 0.5;
    const auto one = merged(job, 1, VectorUnit::kBaseline);
    REQUIRE(one.status.ok());
    for (const auto threads : kThreads) CHECK(merged(job, threads).bytes == one.bytes);
    CHECK(merged(job, 2, std::min(VectorUnit::kAvx2, best_vector_unit())).bytes == one.bytes);
  }
}
