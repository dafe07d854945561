// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/statistics.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/catch.h"

using namespace ckpt;

namespace {

template <typename Number>
std::span<const std::byte> bytes_of(const std::vector<Number>& values) {
  return std::as_bytes(std::span(values));
}

double real(const std::optional<StatisticsValue>& value) {
  return std::get<double>(*value);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("numbers that are no numbers are counted and left out of the sums", "[compute]") {
  const auto all =
      statistics_of(Dtype::kFloat32, bytes_of<float>({1, kNan, 3, -kInfinity, 0, -0.0F, 1e-40F, 2}));
  CHECK(all.count == 8);
  CHECK(all.nans == 1);
  CHECK(all.infinities == 1);
  CHECK(all.zeros == 2);
  CHECK(all.subnormals == 1);
  CHECK(real(all.minimum) == -std::numeric_limits<double>::infinity());
  CHECK(real(all.maximum) == 3);
  CHECK(all.mean == Approx(1));
  CHECK(all.standard_deviation() == Approx(std::sqrt(8.0 / 5)));
}

TEST_CASE("nothing but NaN has no extremes and no moments", "[compute]") {
  const auto none = statistics_of(Dtype::kFloat32, bytes_of<float>({kNan, kNan}));
  CHECK_FALSE(none.minimum.has_value());
  CHECK_FALSE(none.has_moments());
  const auto empty = statistics_of(Dtype::kFloat32, {});
  CHECK(empty.count == 0);
  CHECK_FALSE(empty.maximum.has_value());
}

TEST_CASE("moments stay exact however far the values lie from zero, and from the first", "[compute]") {
  std::vector<float> values(4096, 3e7F);
  CHECK(statistics_of(Dtype::kFloat32, bytes_of(values)).standard_deviation() == 0);
  values[0] = 4e7F;
  const auto found = statistics_of(Dtype::kFloat32, bytes_of(values));
  CHECK(found.mean == 3e7 + 1e7 / 4096);
  CHECK(found.standard_deviation() == Approx(1e7 / 64).epsilon(1e-15));
}

TEST_CASE("values whose squares are beyond float64 have a mean", "[compute]") {
  const auto far =
      statistics_of(Dtype::kFloat64, bytes_of<double>({1.5e308, -1.5e308, 1.2e308, -1.2e308, 4}));
  CHECK(far.mean == Approx(0.8));
  CHECK(std::isinf(far.standard_deviation()));
}

TEST_CASE("integers of 64 bits keep all of them", "[compute]") {
  constexpr auto kLargest = std::numeric_limits<std::uint64_t>::max();
  const auto whole = statistics_of(Dtype::kUint64, bytes_of<std::uint64_t>({kLargest, 0, kLargest - 1}));
  CHECK(std::get<std::uint64_t>(*whole.maximum) == kLargest);
  CHECK(whole.zeros == 1);
  const auto least =
      statistics_of(Dtype::kInt64, bytes_of<std::int64_t>({std::numeric_limits<std::int64_t>::min(), 5}));
  CHECK(std::get<std::int64_t>(*least.minimum) == std::numeric_limits<std::int64_t>::min());
}

TEST_CASE("parts add up to the whole, wherever it is cut", "[compute]") {
  std::vector<float> values(20'011);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1e4F + static_cast<float>(i % 97) * 1e-3F;
  const auto whole = statistics_of(Dtype::kFloat32, bytes_of(values));
  for (const std::size_t cut : {0U, 1U, 4095U, 4096U, 4097U, 20'010U}) {
    const auto bytes = bytes_of(values);
    auto sum = statistics_of(Dtype::kFloat32, bytes.first(cut * sizeof(float)));
    add_statistics(sum, statistics_of(Dtype::kFloat32, bytes.subspan(cut * sizeof(float))));
    CAPTURE(cut);
    CHECK(sum.count == whole.count);
    CHECK(sum.mean == Approx(whole.mean).epsilon(1e-14));
    CHECK(sum.standard_deviation() == Approx(whole.standard_deviation()).epsilon(1e-10));
  }
  CHECK(whole.standard_deviation() == Approx(0.028).epsilon(0.02));
}

TEST_CASE("expanded and negated values are those of the tensor", "[compute]") {
  auto values = statistics_of(Dtype::kFloat32, bytes_of<float>({1, 2, 6}));
  repeat_statistics(values, 4);
  negate_statistics(values);
  CHECK(values.count == 12);
  CHECK(real(values.minimum) == -6);
  CHECK(real(values.maximum) == -1);
  CHECK(values.mean == -3);
  CHECK(values.standard_deviation() == Approx(std::sqrt(14.0 * 4 / 11)));
}

TEST_CASE("the last bin holds the largest value", "[compute]") {
  Histogram histogram(0, 4, 4);
  histogram.add(Dtype::kFloat32, bytes_of<float>({0, 1, 2, 3, 4, kNan, kInfinity}), false);
  CHECK(histogram.counts() == std::vector<std::uint64_t>{1, 1, 1, 2});
  Histogram same(3, 3, 2);
  same.add(Dtype::kInt32, bytes_of<std::int32_t>({3, 3}), false);
  CHECK(same.low() == 2);
  CHECK(same.counts() == std::vector<std::uint64_t>{0, 2});
}

TEST_CASE("bins are equal however large or small the values are", "[compute]") {
  constexpr auto kMost = std::numeric_limits<double>::max();
  constexpr auto kLeast = std::numeric_limits<double>::denorm_min();
  using Counts = std::vector<std::uint64_t>;
  const auto counts = [](double low, double high, std::size_t bins, const std::vector<double>& values) {
    Histogram histogram(low, high, bins);
    histogram.add(Dtype::kFloat64, bytes_of(values), false);
    return histogram.counts();
  };
  CHECK(counts(-kMost, kMost, 3, {-kMost, 0, kMost}) == Counts{1, 1, 1});
  CHECK(counts(kLeast, 3 * kLeast, 3, {kLeast, 2 * kLeast, 3 * kLeast}) == Counts{1, 1, 1});
  CHECK(counts(1e-300, 1.5e-300, 2, {1e-300, 1.4e-300, 1.5e-300}) == Counts{1, 2});
  CHECK(counts(1e300, 1e300, 3, {1e300, 1e300}) == Counts{0, 2, 0});
  CHECK(counts(-0x1p53, -0x1p53, 3, {-0x1p53}) == Counts{0, 0, 1});  // the next number below is farther
  CHECK(counts(kMost, kMost, 3, {kMost}) == Counts{0, 0, 1});        // and here there is none above
  CHECK(counts(-kMost, -kMost, 3, {-kMost}) == Counts{1, 0, 0});
}
