// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/differences.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ckpt/compute/lazy_bits.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename Number>
Bytes bytes_of(const std::vector<Number>& numbers) {
  Bytes out(numbers.size() * sizeof(Number));
  std::memcpy(out.data(), numbers.data(), out.size());
  return out;
}

template <typename Number>
Differences between(Dtype dtype, const std::vector<Number>& file, const std::vector<Number>& base) {
  return differences_of(dtype, bytes_of(file), bytes_of(base));
}

}  // namespace

TEST_CASE("differences of a fine-tune are what their names say", "[compute]") {
  const auto moved = between<float>(Dtype::kFloat32, {3, 4, 1}, {3, 0, -1});
  CHECK(moved.count == 3);
  CHECK(moved.largest == 4);
  CHECK(moved.squares.value == 20);
  CHECK(moved.relative_norm() == std::sqrt(20.0) / std::sqrt(10.0));
  CHECK(moved.cosine() == 8 / (std::sqrt(10.0) * std::sqrt(26.0)));
}

TEST_CASE("nothing is divided by a base of zeros", "[compute]") {
  const auto from_zero = between<double>(Dtype::kFloat64, {1, 2}, {0, 0});
  CHECK_FALSE(from_zero.relative_norm());
  CHECK_FALSE(from_zero.cosine());
  const auto zeros = between<double>(Dtype::kFloat64, {0, 0}, {0, 0});
  CHECK(zeros.relative_norm() == 0.0);
  CHECK_FALSE(zeros.cosine());
}

TEST_CASE("pairs with a NaN or an infinity are counted and left out, in whatever block", "[compute]") {
  std::vector<double> file(5000, 1.0);
  std::vector<double> base(5000, 2.0);
  file[0] = kInfinity;
  base[2500] = std::nan("");
  file[4999] = -kInfinity;
  base[4999] = -kInfinity;
  const auto moved = between(Dtype::kFloat64, file, base);
  CHECK(moved.count == 5000);
  CHECK(moved.not_finite == 3);
  CHECK(moved.squares.value == 4997);
  CHECK(moved.base_squares.value == 4 * 4997);
  CHECK(moved.products.value == 2 * 4997);
  CHECK(moved.largest == 1);
}

TEST_CASE("integers beyond 2^53 are subtracted exactly", "[compute]") {
  const std::int64_t large = std::int64_t{1} << 60U;
  CHECK(between<std::int64_t>(Dtype::kInt64, {large + 1}, {large}).largest == 1);
  CHECK(between<std::int64_t>(Dtype::kInt64, {std::numeric_limits<std::int64_t>::max()},
                              {std::numeric_limits<std::int64_t>::min()})
            .largest == 0x1p64);
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  CHECK(between<std::uint64_t>(Dtype::kUint64, {most - 2}, {most}).largest == 2);
}

TEST_CASE("a complex value is as large as its modulus", "[compute]") {
  const auto moved = between<float>(Dtype::kComplex64, {3, 4, 1, 1}, {0, 0, 1, 1});
  CHECK(moved.count == 2);
  CHECK(moved.largest == 5);
  CHECK(moved.squares.value == 25);
}

TEST_CASE("squares beyond the range of a float64 do no harm", "[compute]") {
  const auto check = [](const std::vector<double>& file, const std::vector<double>& base, double norm,
                        double cosine) {
    const auto moved = between(Dtype::kFloat64, file, base);
    CHECK(moved.relative_norm().value() == Approx(norm).epsilon(1e-12));
    CHECK(moved.cosine().value() == Approx(cosine).epsilon(1e-12));
  };
  for (const auto size : {1.0, 1e160, 1e200, 1e307, 1e-160, 1e-200, 1e-300}) {
    CAPTURE(size);
    check({4 * size, 3 * size}, {4 * size, 0}, 0.75, 0.8);
    check({4 * size, 3 * size}, {4, 0}, std::hypot(size - 1, 0.75 * size), 0.8);
    std::vector<double> many(5000, size);
    const std::vector<double> base(many);
    many[0] = -size;
    check(many, base, std::sqrt(4.0 / 5000), 4998.0 / 5000);
  }
  constexpr auto kMost = std::numeric_limits<double>::max();
  check({kMost, 1}, {-kMost, 1}, 2, -1);
  check(std::vector<double>(100'000, 1e152), std::vector<double>(100'000, 2e152), 0.5, 1);
  check({1e200, 1e-200}, {1e200, 3e-200}, 0, 1);
  std::vector<double> mixed(100'000, 1);
  for (std::size_t i = 0; i < mixed.size(); ++i) mixed[i] = i % 20'000 < 10'000 ? 1e-200 : 4;
  const std::vector<double> half(100'000, 2);
  check(mixed, half, 1, 1 / std::sqrt(2.0));
  const auto tiny = between<double>(Dtype::kFloat64, {1, 3e-200, 4e-200}, {1, 0, 0});
  CHECK(tiny.largest == 4e-200);
  CHECK(tiny.relative_norm().value() == Approx(5e-200).epsilon(1e-15));
  CHECK(tiny.cosine() == 1.0);
}

TEST_CASE("bits that negate or conjugate become values", "[compute]") {
  auto floats = bytes_of<float>({1, -2, 0});
  resolve_lazy_bits(Dtype::kFloat32, {true, false}, floats);
  CHECK(floats == bytes_of<float>({-1, 2, -0.0F}));
  auto integers = bytes_of<std::int16_t>({5, -32768, 0});
  resolve_lazy_bits(Dtype::kInt16, {true, false}, integers);
  CHECK(integers == bytes_of<std::int16_t>({-5, -32768, 0}));
  auto conjugated = bytes_of<double>({1, 2, 3, -4});
  resolve_lazy_bits(Dtype::kComplex128, {false, true}, conjugated);
  CHECK(conjugated == bytes_of<double>({1, -2, 3, 4}));
  resolve_lazy_bits(Dtype::kComplex128, {true, true}, conjugated);
  CHECK(conjugated == bytes_of<double>({-1, -2, -3, 4}));
}
