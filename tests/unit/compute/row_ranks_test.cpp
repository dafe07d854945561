// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/row_ranks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "support/catch.h"

using namespace ckpt;

namespace {

/// A sort, and a threshold for each place.
template <typename Real>
std::vector<bool> kept_by_sorting(const std::vector<Real>& row, const RankedMask& mask, std::uint64_t first) {
  std::vector<std::size_t> order(row.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto key = [&](std::size_t i) { return std::bit_cast<MagnitudeKey<Real>>(std::fabs(row[i])); };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return key(a) > key(b); });
  std::vector<bool> out(row.size());
  const auto last = static_cast<double>(row.size() - 1);
  for (std::size_t place = 0; place < row.size(); ++place) {
    const auto share = row.size() == 1 ? 0.5 : (last - static_cast<double>(place)) / last;
    const auto probability = mask.density - mask.epsilon + 2 * mask.epsilon * share;
    const auto random = static_cast<double>(merge_random(mask.key, first + order[place]));
    out[order[place]] = random < std::ceil(probability * 0x1p32);
  }
  return out;
}

template <typename Real>
std::vector<bool> kept_by_rank(const std::vector<Real>& row, const RankedMask& mask, std::uint64_t first,
                               std::size_t bit, VectorUnit unit) {
  const auto& kernels = merge_kernels<Real>(unit);
  std::vector<MagnitudeKey<Real>> keys(row.size());
  const auto greatest = kernels.magnitudes(row.data(), 0, keys.data(), row.size());
  CHECK(greatest == *std::max_element(keys.begin(), keys.end()));
  std::vector<std::uint64_t> bits((bit + row.size() + 63) / 64);
  RowRanker<Real> ranker(kernels);
  ranker.mark(keys, greatest, mask, first, bit, bits);
  std::vector<bool> out;
  for (std::size_t i = 0; i < row.size(); ++i)
    out.push_back((bits[(bit + i) / 64] >> (bit + i) % 64 & 1U) != 0);
  std::size_t marked = 0;
  for (const auto word : bits) marked += static_cast<std::size_t>(std::popcount(word));
  CHECK(marked == static_cast<std::size_t>(std::count(out.begin(), out.end(), true)));
  return out;
}

/// Rows whose magnitudes lie together, are equal, or have nothing to do with the greatest.
template <typename Real>
std::vector<std::vector<Real>> rows() {
  std::vector<std::vector<Real>> out;
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  for (const std::size_t size : {1U, 2U, 63U, 64U, 65U, 200U, 1024U, 2048U, 2049U, 5000U}) {
    std::vector<Real> row;
    for (std::size_t i = 0; i < size; ++i) row.push_back(static_cast<Real>(normal(random)));
    out.push_back(row);
    for (auto& value : row) value = std::round(value * 8) / 8;
    out.push_back(row);
    for (auto& value : row) value *= static_cast<Real>(1e-20);
    row[size / 2] = static_cast<Real>(1e20);
    out.push_back(row);
    row[size / 3] = std::numeric_limits<Real>::quiet_NaN();
    row[size / 4] = -std::numeric_limits<Real>::infinity();
    out.push_back(row);
    out.emplace_back(size, Real{-0.25});
    out.emplace_back(size, Real{0});
  }
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("a row is kept as its order says, whether it has to be sorted or not", "[compute]", float,
                   double) {
  const RankedMask masks[] = {{0.5, 0.15, 11}, {0.3, 0.29, 12}, {0.9, 0, 13}};
  for (const auto& row : rows<TestType>()) {
    for (const auto& mask : masks) {
      const auto expected = kept_by_sorting(row, mask, 4097);
      for (const auto unit : {VectorUnit::kBaseline, VectorUnit::kAvx2, VectorUnit::kAvx512}) {
        if (unit > best_vector_unit()) continue;
        CHECK(kept_by_rank(row, mask, 4097, 0, unit) == expected);
        CHECK(kept_by_rank(row, mask, 4097, 77, unit) == expected);
      }
    }
  }
}
