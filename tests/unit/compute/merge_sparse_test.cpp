// SPDX-License-Identifier: BSD-3-Clause
// Each method against sorting and plain loops.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "support/catch.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

Numbers changes(const Numbers& base, const Numbers& other) {
  Numbers out;
  for (std::size_t i = 0; i < base.size(); ++i) out.push_back(other[i] - base[i]);
  return out;
}

/// Places in the order: greatest magnitude first, equal ones by position.
std::vector<std::size_t> in_order(const Numbers& numbers, std::size_t first, std::size_t last) {
  std::vector<std::size_t> out(last - first);
  std::iota(out.begin(), out.end(), first);
  std::stable_sort(out.begin(), out.end(), [&](std::size_t a, std::size_t b) {
    return std::fabs(numbers[a]) > std::fabs(numbers[b]);
  });
  return out;
}

Numbers band(const Numbers& numbers, std::size_t first, std::size_t last) {
  const auto order = in_order(numbers, 0, numbers.size());
  Numbers out(numbers.size());
  for (auto i = first; i < last; ++i) out[order[i]] = numbers[order[i]];
  return out;
}

Numbers scaled_to(const Numbers& numbers, Numbers kept) {
  const auto size = [](const Numbers& all) {
    return std::accumulate(all.begin(), all.end(), 0.0L,
                           [](long double sum, double x) { return sum + std::fabs(x); });
  };
  const auto factor = static_cast<double>(size(numbers) / size(kept));
  for (auto& number : kept) number *= factor;
  return kept;
}

/// The sum of changes, after a vote where `votes`.
std::vector<long double> put_together(const Numbers& base, const std::vector<Numbers>& kept,
                                      const Numbers& weights, bool votes, bool normalizes,
                                      double lambda = 1) {
  std::vector<long double> out;
  for (std::size_t i = 0; i < base.size(); ++i) {
    long double all = 0;
    for (std::size_t k = 0; k < kept.size(); ++k) all += static_cast<long double>(weights[k]) * kept[k][i];
    long double sum = 0;
    long double divisor = 0;
    for (std::size_t k = 0; k < kept.size(); ++k) {
      const auto part = static_cast<long double>(weights[k]) * kept[k][i];
      const bool agrees = !votes || (all >= 0 ? part > 0 : part < 0);
      if (agrees) sum += part;
      if (agrees) divisor += weights[k];
    }
    if (normalizes) sum /= divisor == 0 ? 1 : divisor;
    out.push_back(base[i] + sum * lambda);
  }
  return out;
}

std::vector<Numbers> all_changes(const std::vector<Numbers>& tensors) {
  std::vector<Numbers> out;
  for (std::size_t k = 1; k < tensors.size(); ++k) out.push_back(changes(tensors[0], tensors[k]));
  return out;
}

std::size_t differences(const Numbers& a, const Numbers& b) {
  std::size_t out = 0;
  for (std::size_t i = 0; i < a.size(); ++i) out += a[i] != b[i] ? 1U : 0U;
  return out;
}

}  // namespace

TEST_CASE("ties keeps exactly the greatest, and who agrees with the elected sign", "[compute]") {
  const auto tensors = related(4, 9001);
  auto job = job_of(MergeMethod::kTies, tensors);
  job.parameters.weights = {1, 0.5, 2};
  job.parameters.densities = {0.3, 0.5, 1};
  job.parameters[MergeParameter::kLambda] = 1.5;
  auto kept = all_changes(tensors);
  kept[0] = band(kept[0], 0, 2700);
  kept[1] = band(kept[1], 0, 4500);
  CHECK(distance(merged_numbers(job),
                 put_together(tensors[0], kept, job.parameters.weights, true, true, 1.5)) < 1e-15);
  job.parameters[MergeParameter::kNormalize] = 0;
  CHECK(distance(merged_numbers(job),
                 put_together(tensors[0], kept, job.parameters.weights, true, false, 1.5)) < 1e-15);
}

TEST_CASE("signs can be elected by count", "[compute]") {
  auto job = job_of(MergeMethod::kTies, {{0}, {5}, {-1}, {-2}});
  CHECK(merged_numbers(job) == Numbers{5});
  job.parameters[MergeParameter::kConsensus] = static_cast<double>(Consensus::kCount);
  CHECK(merged_numbers(job) == Numbers{-1.5});
}

TEST_CASE("a density above 0 keeps one number at least, and 0 keeps none", "[compute]") {
  auto job = job_of(MergeMethod::kTies, {{0, 0, 0}, {1, -3, 2}});
  job.parameters.densities = {0.1};
  CHECK(merged_numbers(job) == Numbers{0, -3, 0});
  job.parameters.densities = {0};
  CHECK(merged_numbers(job) == Numbers{0, 0, 0});
  job = job_of(MergeMethod::kTies, {{7}, {9}});
  job.shape = {};
  job.parameters.densities = {0.2};
  CHECK(merged_numbers(job) == Numbers{9});
}

TEST_CASE("equal magnitudes are kept from the front", "[compute]") {
  auto job = job_of(MergeMethod::kTies, {Numbers(10, 0.0), {1, -1, 1, 2, -1, 1, 1, 0, 0, 3}});
  job.parameters.densities = {0.5};
  CHECK(merged_numbers(job) == Numbers{1, -1, 1, 2, 0, 0, 0, 0, 0, 3});
}

TEST_CASE("exactly k are kept of a large tensor full of equal magnitudes", "[compute]") {
  constexpr std::size_t kCount = 600'000;
  const Numbers base(kCount, 0.0);
  const auto values = normal_numbers(kCount, 3);
  Numbers steps;  // a few magnitudes, and many zeros
  for (const auto value : values) steps.push_back(std::fabs(value) < 0.5 ? 0 : std::round(value * 2) / 2);
  for (const double density : {0.0001, 0.2, 0.75, 0.999999}) {
    const Numbers* const both[] = {&values, &steps};
    for (const auto* numbers : both) {
      auto job = job_of(MergeMethod::kTies, std::vector<Numbers>{base, *numbers});
      job.parameters.densities = {density};
      const auto kept = static_cast<std::size_t>(density * kCount);
      CHECK(differences(merged_numbers(job), band(*numbers, 0, kept)) == 0);
    }
  }
}

TEST_CASE("a sample that misleads costs a pass, and nothing else", "[compute]") {
  // All greatest numbers stand at one place, where hardly a sample is taken.
  constexpr std::size_t kCount = 800'000;
  Numbers numbers(kCount);
  for (std::size_t i = 0; i < kCount; ++i)
    numbers[i] = i >= 400'000 && i < 400'300 ? 1e6 + static_cast<double>(i) : 1;
  for (const auto kept : {100U, 299U, 300U, 301U, 500'000U}) {
    auto job = job_of(MergeMethod::kTies, {Numbers(kCount, 0.0), numbers});
    job.parameters.densities = {(static_cast<double>(kept) + 0.5) / kCount};
    CHECK(differences(merged_numbers(job), band(numbers, 0, kept)) == 0);
  }
}

TEST_CASE("breadcrumbs drops the greatest and the smallest", "[compute]") {
  for (const auto count : {1000U, 400'000U}) {
    const auto tensors = related(3, count);
    for (const auto method : {MergeMethod::kBreadcrumbs, MergeMethod::kBreadcrumbsTies}) {
      auto job = job_of(method, tensors);
      job.parameters.densities = {0.5, 0.25};
      job.parameters.gammas = {0.05, 0.2};
      auto kept = all_changes(tensors);
      kept[0] = band(kept[0], count / 20, count / 20 + count / 2);
      kept[1] = band(kept[1], count / 5, count / 5 + count / 4);
      const bool votes = method == MergeMethod::kBreadcrumbsTies;
      CHECK(distance(merged_numbers(job), put_together(tensors[0], kept, {1, 1}, votes, false)) < 1e-15);
    }
  }
}

TEST_CASE("breadcrumbs of small tensors keeps what its density says", "[compute]") {
  auto job = job_of(MergeMethod::kBreadcrumbs, {{0, 0, 0, 0}, {4, 3, 2, 1}});
  job.parameters.densities = {0.5};  // a hundredth of four is none
  CHECK(merged_numbers(job) == Numbers{4, 3, 0, 0});
  job.parameters[MergeParameter::kGamma] = 0.9;  // more than there is room for
  CHECK(merged_numbers(job) == Numbers{0, 0, 2, 1});
  job.parameters.densities = {1};
  CHECK(merged_numbers(job) == Numbers{4, 3, 2, 1});
}

TEST_CASE("dare keeps each change by chance, and makes up for the rest", "[compute]") {
  constexpr std::size_t kCount = 300'001;
  const auto tensors = related(3, kCount);
  auto job = job_of(MergeMethod::kDareLinear, tensors);
  job.parameters.densities = {0.3, 1};
  job.parameters.seed = 42;
  auto kept = all_changes(tensors);
  const auto key = merge_random_key(42, "weight", 1);
  std::size_t number = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const bool keeps = static_cast<double>(merge_random(key, i)) < 0.3 * 0x1p32;
    number += keeps ? 1U : 0U;
    if (!keeps) kept[0][i] = 0;
  }
  CHECK(std::fabs(static_cast<double>(number) - 0.3 * kCount) < 5 * std::sqrt(0.21 * kCount));
  auto divided = kept;
  for (auto& change : divided[0]) change /= 0.3;
  kept[0] = scaled_to(changes(tensors[0], tensors[1]), kept[0]);
  CHECK(distance(merged_numbers(job), put_together(tensors[0], kept, {1, 1}, false, false)) < 1e-14);
  job.parameters[MergeParameter::kRescaleBy] = static_cast<double>(RescaleBy::kDensity);
  CHECK(distance(merged_numbers(job), put_together(tensors[0], divided, {1, 1}, false, false)) < 1e-15);
  job.method = MergeMethod::kDareTies;
  job.parameters = preset_parameters(job.method, 2);
  job.parameters.densities = {0.3, 1};
  job.parameters.seed = 42;
  CHECK(distance(merged_numbers(job), put_together(tensors[0], kept, {1, 1}, true, false)) < 1e-14);
}

TEST_CASE("random masks differ by seed, tensor, file and element, and are even", "[compute]") {
  std::vector<std::uint64_t> keys;
  for (const auto seed : {0U, 1U}) {
    for (const auto* name : {"a", "b"}) {
      for (const auto file : {1U, 2U}) keys.push_back(merge_random_key(seed, name, file));
    }
  }
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
  constexpr std::size_t kDraws = 1 << 16;
  for (const auto key : keys) {
    std::vector<double> buckets(64);
    double pairs = 0;  // how neighbours hang together
    for (std::size_t i = 0; i < kDraws; ++i) {
      ++buckets[merge_random(key, i) >> 26U];
      pairs += (merge_random(key, i) / 0x1p32 - 0.5) * (merge_random(key, i + 1) / 0x1p32 - 0.5);
    }
    double chi = 0;
    for (const auto count : buckets)
      chi += (count - kDraws / 64.0) * (count - kDraws / 64.0) / (kDraws / 64.0);
    CHECK(chi < 120);  // 63 degrees of freedom: one in 20000 is greater
    CHECK(std::fabs(pairs / kDraws) < 5 / 12.0 / std::sqrt(kDraws));
  }
}

TEST_CASE("della keeps great changes more often than small ones", "[compute]") {
  constexpr std::size_t kRows = 301;
  constexpr std::size_t kRow = 1025;
  const auto tensors = related(3, kRows * kRow, Dtype::kBfloat16);
  for (const auto method : {MergeMethod::kDella, MergeMethod::kDellaLinear}) {
    auto job = job_of(method, tensors);
    job.shape = {kRows, 5, 205};  // a row is all behind the first dimension
    job.parameters.densities = {0.5, 0.3};
    job.parameters.epsilons = {0.2, 0.1};
    auto kept = all_changes(tensors);
    for (std::size_t k = 0; k < 2; ++k) {
      const auto all = kept[k];
      const auto key = merge_random_key(0, "weight", k + 1);
      const auto epsilon = job.parameters.epsilons[k];
      for (std::size_t row = 0; row < kRows; ++row) {
        const auto order = in_order(all, row * kRow, row * kRow + kRow);
        for (std::size_t i = 0; i < kRow; ++i) {
          const auto rank = static_cast<double>(kRow - 1 - i) / (kRow - 1);
          const auto probability = job.parameters.densities[k] - epsilon + 2 * epsilon * rank;
          if (static_cast<double>(merge_random(key, order[i])) >= probability * 0x1p32) kept[k][order[i]] = 0;
        }
      }
      kept[k] = scaled_to(all, kept[k]);
    }
    const bool is_della = method == MergeMethod::kDella;
    CHECK(distance(merged_numbers(job), put_together(tensors[0], kept, {1, 1}, is_della, is_della)) < 1e-13);
  }
}

TEST_CASE("della of rows of one number keeps them by their density", "[compute]") {
  constexpr std::size_t kCount = 4000;
  auto job = job_of(MergeMethod::kDellaLinear, {Numbers(kCount, 0.0), Numbers(kCount, 1.0)});
  job.shape = {kCount, 1};
  job.parameters.densities = {0.25};
  job.parameters[MergeParameter::kRescale] = 0;
  const auto result = merged_numbers(job);
  const auto kept = std::accumulate(result.begin(), result.end(), 0.0);
  CHECK(std::fabs(kept - 1000) < 5 * std::sqrt(750));
  job.shape = {};
  for (auto& input : job.inputs) input.offset = 0;
  CHECK(merged(job).status.ok());
}

TEST_CASE("della of a very long row ranks by rounded magnitudes", "[compute]") {
  constexpr std::size_t kCount = (1 << 19) + 1001;
  const auto tensors = related(2, kCount);
  auto job = job_of(MergeMethod::kDellaLinear, tensors);
  job.parameters.densities = {0.5};
  job.parameters[MergeParameter::kRescale] = 0;
  const auto result = merged_numbers(job);
  const auto change = changes(tensors[0], tensors[1]);
  const auto order = in_order(change, 0, kCount);
  const auto key = merge_random_key(0, "weight", 1);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    const auto probability = 0.5 - 0.15 + 0.3 * static_cast<double>(kCount - 1 - i) / (kCount - 1);
    const bool keeps = static_cast<double>(merge_random(key, order[i])) < probability * 0x1p32;
    wrong += keeps != (result[order[i]] != tensors[0][order[i]]) ? 1U : 0U;
  }
  CHECK(wrong < kCount / 2000);
}

TEST_CASE("della needs a density that epsilon leaves between 0 and 1", "[compute]") {
  auto job = job_of(MergeMethod::kDella, {{0, 0}, {1, 2}});
  job.parameters.densities = {0.9};
  CHECK(merged(job).status.error().code() == ErrorCode::kUsage);
  job.parameters.densities = {1};
  CHECK(merged(job).status.ok());
  job = job_of(MergeMethod::kDella, {{0, 0}, {1, 2}, {3, 4}});
  job.parameters.densities = {0.9, 0.5};
  job.parameters.epsilons = {0.05, 0.4};
  CHECK(merged(job).status.ok());
  job.parameters.epsilons = {0.05, 0.6};
  CHECK(merged(job).status.error().message().find("density 0.5 with epsilon 0.6") != std::string::npos);
  job.parameters.epsilons = {0.05};
  CHECK(merged(job).status.error().message() == "tensor 'weight': 1 values of 'epsilon' for 2 tensors");
}

TEST_CASE("numbers that are no numbers are the greatest, and stay", "[compute]") {
  constexpr auto kNan = std::numeric_limits<double>::quiet_NaN();
  auto job = job_of(MergeMethod::kTies, {{0, 0, 0, 0}, {1, kNan, INFINITY, 2}, {1, 1, 1, 1}});
  job.parameters.densities = {0.5, 1};
  const auto result = merged_numbers(job);
  CHECK(result[0] == 1);
  CHECK(std::isnan(result[1]));
  CHECK(result[2] == INFINITY);
  CHECK(result[3] == 1);
}

TEST_CASE("thinned out merges do not depend on threads and vector units", "[compute]") {
  constexpr std::size_t kCount = 280'000;
  for (const auto accumulate : {Accumulate::kFloat64, Accumulate::kFloat32}) {
    for (const auto dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
      const auto tensors = related(3, kCount, dtype);
      for (const auto method :
           {MergeMethod::kTies, MergeMethod::kDareTies, MergeMethod::kDella, MergeMethod::kBreadcrumbs}) {
        auto job = job_of(method, tensors, dtype);
        job.shape = {280, 1000};
        job.accumulate = accumulate;
        job.parameters.densities = {0.4, 0.6};
        const auto one = merged(job, 1, VectorUnit::kBaseline);
        REQUIRE(one.status.ok());
        CHECK(merged(job, 5).bytes == one.bytes);
        CHECK(merged(job, 2, std::min(VectorUnit::kAvx2, best_vector_unit())).bytes == one.bytes);
      }
    }
  }
}
