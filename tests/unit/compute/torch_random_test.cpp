// SPDX-License-Identifier: BSD-3-Clause
// The stream and what is drawn from it. That the values are PyTorch's: layer_init_test.cpp.
#include "ckpt/compute/torch_random.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "ckpt/compute/narrow_floats.h"
#include "ckpt/compute/normal_block.h"
#include "ckpt/compute/trunc_normal.h"
#include "support/catch.h"

using namespace ckpt;

namespace {

template <typename Element>
std::vector<Element> elements(const Bytes& bytes) {
  std::vector<Element> out(bytes.size() / sizeof(Element));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST_CASE("the generator is the one of the standard library", "[compute]") {
  for (const std::uint32_t seed : {0U, 1U, 5489U, 0xffffffffU}) {
    std::mt19937 expected(seed);
    MersenneTwister generator(seed);
    // NOLINTNEXTLINE: sizes around those of a state
    for (const std::size_t size : {1U, 2U, 620U, 1U, 1U, 623U, 624U, 625U, 2000U}) {
      std::vector<std::uint32_t> numbers(size);
      generator.fill(numbers);
      for (const auto number : numbers) REQUIRE(number == expected());
    }
    CHECK(generator.next() == expected());
  }
}

TEST_CASE("a seed counts with its low 32 bits", "[compute]") {
  const auto drawn = [](std::uint64_t seed) {
    return TorchRandom(seed).uniform(kNewestComputedTorch, Dtype::kFloat32, 10, 0, 1);
  };
  CHECK(drawn(5) == drawn((std::uint64_t{1} << 40U) + 5));
  CHECK(drawn(static_cast<std::uint64_t>(std::int64_t{-1})) == drawn(0xffffffffU));
  CHECK(drawn(5) != drawn(6));
}

TEST_CASE("how values are asked for does not change the stream", "[compute]") {
  TorchRandom together(3);
  TorchRandom apart(3);
  const auto whole = together.uniform(kNewestComputedTorch, Dtype::kFloat32, 3000, -1, 1);
  Bytes parts;
  for (const std::uint64_t count : {1U, 999U, 624U, 1376U})
    append_bytes(parts, apart.uniform(kNewestComputedTorch, Dtype::kFloat32, count, -1, 1));
  CHECK(whole == parts);
}

TEST_CASE("the second of a pair of normal values is kept for the next call", "[compute]") {
  TorchRandom together(3);
  TorchRandom apart(3);
  const auto whole = together.normal(kNewestComputedTorch, Dtype::kFloat64, 6, 2);
  Bytes parts;
  for (const std::uint64_t count : {1U, 0U, 2U, 3U})
    append_bytes(parts, apart.normal(kNewestComputedTorch, Dtype::kFloat64, count, 2));
  CHECK(whole == parts);
}

TEST_CASE("a block of normal values has the same bits on every processor", "[compute]") {
  MersenneTwister generator(7);
  std::vector<std::uint32_t> edges = {0, 1, 2, 0xffffff, 0xfffffe, 0x800000, 0x7fffff, 0x800001};
  for (std::uint32_t octant = 0; octant < 8; ++octant) edges.push_back(octant << 21U);
  for (int round = 0; round < 20000; ++round) {
    std::array<float, 16> values;
    for (auto& value : values) {
      const auto number = round < 200 ? edges[generator.next() % edges.size()] : generator.next();
      value = static_cast<float>(number & 0xffffffU) * 0x1p-24F;
    }
    auto portable = values;
    make_normal(values, 0.7F);
    make_normal_portably(portable, 0.7F);
    REQUIRE(std::memcmp(values.data(), portable.data(), sizeof values) == 0);
  }
}

TEST_CASE("normal values are the pairs of Box and Muller", "[compute]") {
  MersenneTwister generator(11);
  for (int round = 0; round < 1000; ++round) {
    std::array<float, 16> values;
    for (auto& value : values) value = static_cast<float>(generator.next() & 0xffffffU) * 0x1p-24F;
    const auto uniform = values;
    make_normal(values, 1);
    for (std::size_t i = 0; i < 8; ++i) {
      const double radius = std::sqrt(-2 * std::log1p(-static_cast<double>(uniform[i])));
      const double angle = 2 * M_PI * static_cast<double>(uniform[i + 8]);
      REQUIRE(std::abs(static_cast<double>(values[i]) - radius * std::cos(angle)) < 4e-6);
      REQUIRE(std::abs(static_cast<double>(values[i + 8]) - radius * std::sin(angle)) < 4e-6);
    }
  }
}

TEST_CASE("uniform values lie between their bounds, the upper one excluded", "[compute]") {
  TorchRandom random(1);
  for (const auto& value : elements<float>(random.uniform({2, 15}, Dtype::kFloat32, 100000, -0.3, 0.7)))
    REQUIRE((value >= -0.3F && value < 0.7F));
  for (const auto& value : elements<Bfloat16>(random.uniform({2, 15}, Dtype::kBfloat16, 100000, -0.5, 0.5)))
    REQUIRE((value >= -0.5F && value < 0.5F));
}

TEST_CASE("truncated normal values lie between -2 and 2 and keep their deviation", "[compute]") {
  for (const auto version : {TorchVersion{2, 11}, TorchVersion{2, 12}}) {
    for (const double std : {0.02, 1.0, 6.0}) {
      TorchRandom random(1);
      const auto values = elements<double>(trunc_normal(random, version, Dtype::kFloat64, 100000, std));
      double squares = 0;
      for (const auto value : values) {
        REQUIRE(std::abs(value) <= 2);
        squares += value * value;
      }
      // Of a standard normal distribution cut at c the variance is 1 - 2 c φ(c) / (2 Φ(c) - 1).
      const double cut = 2 / std;
      const double density = std::exp(-cut * cut / 2) / std::sqrt(2 * M_PI);
      const double variance = std * std * (1 - 2 * cut * density / std::erf(cut / std::sqrt(2)));
      CAPTURE(version.minor, std);
      CHECK(std::sqrt(squares / static_cast<double>(values.size())) ==
            Approx(std::sqrt(variance)).epsilon(0.01));
    }
  }
}

TEST_CASE("an inverted uniform value of -1 becomes the lower bound", "[compute]") {
  // Of 2^8 values of a bfloat16 one is the lower bound itself, -1.
  TorchRandom random(1);
  const auto values = elements<Bfloat16>(trunc_normal(random, {2, 11}, Dtype::kBfloat16, 10000, 0.02));
  CHECK(std::count_if(values.begin(), values.end(), [](Bfloat16 value) { return value == -2.0F; }) > 10);
}

TEST_CASE("every float16 and bfloat16 is rounded to itself", "[compute]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    Float16 half;
    Bfloat16 brain;
    half.bits = brain.bits = static_cast<std::uint16_t>(bits);
    if (!std::isnan(static_cast<float>(half))) REQUIRE(Float16(static_cast<float>(half)).bits == bits);
    if (!std::isnan(static_cast<float>(brain))) REQUIRE(Bfloat16(static_cast<float>(brain)).bits == bits);
  }
}

TEST_CASE("between two 16-bit floats the nearer is taken, in the middle the even one", "[compute]") {
  CHECK(Float16(1.0F + 0x1p-11F).bits == 0x3c00);
  CHECK(Float16(1.0F + 0x1.8p-10F).bits == 0x3c02);
  CHECK(Float16(1.0F + 0x1.002p-11F).bits == 0x3c01);
  CHECK(Float16(0x1p-25F).bits == 0);
  CHECK(Float16(0x1.8p-24F).bits == 2);
  CHECK(Float16(-0x1.8p-25F).bits == 0x8001);
  CHECK(Float16(65519.0F).bits == 0x7bff);
  CHECK(Float16(65520.0F).bits == 0x7c00);
  CHECK(Float16(1e30F).bits == 0x7c00);
  CHECK(Float16(std::numeric_limits<float>::quiet_NaN()).bits == 0x7e00);
  CHECK(Bfloat16(1.0F + 0x1p-8F).bits == 0x3f80);
  CHECK(Bfloat16(1.0F + 0x1.8p-7F).bits == 0x3f82);
  CHECK(Bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(std::isnan(static_cast<float>(Bfloat16(std::bit_cast<float>(0x7fffffffU)))));
}

}  // namespace
