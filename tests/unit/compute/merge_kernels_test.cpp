// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/merge_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "support/catch.h"

using namespace ckpt;

namespace {

constexpr VectorUnit kUnits[] = {VectorUnit::kBaseline, VectorUnit::kAvx2, VectorUnit::kAvx512};

template <typename Real>
struct alignas(64) Block {
  Real values[kMergeBlock] = {};
};

/// Few different numbers of either sign, so that many are equal; 0 behind `count`.
template <typename Real>
Block<Real> block_of(std::size_t count) {
  Block<Real> out;
  std::mt19937 random(static_cast<unsigned>(count));
  for (std::size_t i = 0; i < count; ++i)
    out.values[i] = static_cast<Real>(static_cast<int>(random() % 31) - 15) / 8;
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("keys are counted around an interval, and those inside it are kept", "[compute]", float,
                   double) {
  using Key = MagnitudeKey<TestType>;
  const auto key_of = [](TestType value) { return std::bit_cast<Key>(std::fabs(value)); };
  for (const auto unit : kUnits) {
    if (unit > best_vector_unit()) continue;
    const auto& kernels = merge_kernels<TestType>(unit);
    for (const std::size_t count : {0U, 1U, 7U, 8U, 9U, 127U, 128U, 130U, 1000U, 1024U}) {
      const auto block = block_of<TestType>(count);
      for (const auto lower : {TestType{0}, TestType{0.5}, TestType{1.25}}) {
        for (const auto upper : {TestType{1.25}, TestType{1.5}, TestType{9}}) {
          KeyCounts expected;
          std::vector<Key> between;
          for (std::size_t i = 0; i < count; ++i) {
            const auto size = std::fabs(block.values[i]);
            expected.above += size > upper ? 1 : 0;
            expected.at_upper += size == upper ? 1 : 0;
            expected.at_lower += size == lower && lower != upper ? 1 : 0;
            if (size > lower && size < upper) between.push_back(key_of(size));
          }
          std::vector<Key> inside(kMergeBlock);
          const auto counts =
              kernels.collect(block.values, key_of(lower), key_of(upper), inside.data(), count);
          CHECK(counts.above == expected.above);
          CHECK(counts.at_upper == expected.at_upper);
          CHECK(counts.at_lower == expected.at_lower);
          inside.resize(counts.between);
          std::sort(inside.begin(), inside.end());
          std::sort(between.begin(), between.end());
          CHECK(inside == between);
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("numbers are kept whose bits are set, wherever their bits begin", "[compute]", float,
                   double) {
  std::mt19937_64 random(3);
  std::vector<std::uint64_t> bits(20);
  for (auto& word : bits) word = random();
  for (const auto unit : kUnits) {
    if (unit > best_vector_unit()) continue;
    for (const std::size_t count : {1U, 63U, 64U, 65U, 200U, 1024U}) {
      for (const std::size_t first : {0U, 1U, 63U, 64U, 200U}) {
        const auto before = block_of<TestType>(count);
        auto block = before;
        merge_kernels<TestType>(unit).keep_bits(block.values, bits.data(), first, count);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const bool is_kept = (bits[(first + i) / 64] >> (first + i) % 64 & 1U) != 0;
          wrong += block.values[i] == (is_kept ? before.values[i] : 0) ? 0 : 1;
        }
        CHECK(wrong == 0);
      }
    }
  }
}
