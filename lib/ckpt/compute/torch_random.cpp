// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/torch_random.h"

#include <array>
#include <cmath>
#include <numbers>
#include <span>
#include <type_traits>
#include <utility>

#include "ckpt/compute/elements.h"
#include "ckpt/compute/narrow_floats.h"
#include "ckpt/compute/normal_block.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kBlock = 16;  ///< elements that PyTorch makes normal at once
constexpr double kTwoPi = 2 * std::numbers::pi;

/// Since this release normal values that are drawn one by one use log1p(-x), not log(1 - x).
constexpr TorchVersion kLog1p = {2, 0};
/// Since this release functions of a float16 are rounded to one, as they always were of a bfloat16.
constexpr TorchVersion kNarrowFunctions = {2, 1};
/// Since this release 16-bit floats are drawn as float32.
constexpr TorchVersion kWideDraws = {2, 12};
/// Since this release normal 16-bit floats come about as float32 ones do, deviation included.
constexpr TorchVersion kFastWideNormals = {2, 13};

// ---- uniform --------------------------------------------------------------------------------------------

/// Two outputs, the first one above, of which 53 bits count; in [0, 1).
double unit_double(std::uint32_t first, std::uint32_t second) {
  const auto both = (static_cast<std::uint64_t>(first) << 32U) | second;
  return static_cast<double>(both & ((std::uint64_t{1} << 53U) - 1)) * 0x1p-53;
}

void make_uniform(MersenneTwister& generator, std::span<double> values, double from, double to) {
  std::array<std::uint32_t, 2 * kBatch> numbers;
  generator.fill(std::span(numbers).first(2 * values.size()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::fma(unit_double(numbers[2 * i], numbers[2 * i + 1]), to - from, from);
}

/// 24 bits of an output count. Sum and product are exact in double, so one rounding is what remains, as it is
/// with a fused multiplication.
void make_uniform(MersenneTwister& generator, std::span<float> values, float from, float to) {
  std::array<std::uint32_t, kBatch> numbers;
  generator.fill(std::span(numbers).first(values.size()));
  const double unit = static_cast<double>(to - from) * 0x1p-24;
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<std::int32_t>(numbers[i] & 0xffffffU) * unit + from);
}

/// As float32; what rounding lifts to the upper bound, which is excluded, becomes the lower one.
template <typename Narrow>
void make_wide_uniform(MersenneTwister& generator, std::span<Narrow> values, float from, float to) {
  std::array<float, kBatch> wide;
  make_uniform(generator, std::span(wide).first(values.size()), from, to);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Narrow value(wide[i]);
    values[i] = value == Narrow(to) ? Narrow(from) : value;
  }
}

/// As many bits of an output count as the type has; bounds and range are of the type. Products are exact.
template <typename Narrow>
void make_narrow_uniform(MersenneTwister& generator, std::span<Narrow> values, Narrow from, Narrow to) {
  std::array<std::uint32_t, kBatch> numbers;
  generator.fill(std::span(numbers).first(values.size()));
  constexpr auto kCount = 1U << static_cast<unsigned>(Narrow::kPrecision);
  const Narrow range(to - from);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = Narrow(static_cast<float>(numbers[i] % kCount) / kCount * range + from);
}

template <typename Element>
Elements<Element> uniform_elements(MersenneTwister& generator, TorchVersion version, std::uint64_t count,
                                   double from, double to) {
  return Elements<Element>::in_batches(count, [&](std::span<Element> batch) {
    if constexpr (!kIsNarrow<Element>) {
      make_uniform(generator, batch, static_cast<Element>(from), static_cast<Element>(to));
    } else if (version >= kWideDraws) {
      make_wide_uniform(generator, batch, static_cast<float>(from), static_cast<float>(to));
    } else {
      make_narrow_uniform(generator, batch, rounded<Element>(from), rounded<Element>(to));
    }
  });
}

// ---- normal ---------------------------------------------------------------------------------------------
// Sixteen uniform values become eight pairs, the first of a pair in the first half.

void make_normal_block(MersenneTwister& generator, std::span<double, kBlock> values, double std) {
  make_uniform(generator, values, 0.0, 1.0);
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - values[i]));
    const double angle = kTwoPi * values[i + kBlock / 2];
    values[i] = radius * std::cos(angle) * std + 0.0;
    values[i + kBlock / 2] = radius * std::sin(angle) * std + 0.0;
  }
}

void make_normal_block(MersenneTwister& generator, std::span<float, kBlock> values, double std) {
  make_uniform(generator, values, 0.0F, 1.0F);
  make_normal(values, static_cast<float>(std));
}

/// With the C library's functions, whose values differ from those of make_normal in some last bits.
void make_normal_by_library(std::span<float, kBlock> values, float std) {
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    const float radius = std::sqrt(-2 * std::log(1 - values[i]));
    const auto angle = static_cast<float>(kTwoPi * static_cast<double>(values[i + kBlock / 2]));
    values[i] = radius * std::cos(angle) * std + 0.0F;
    values[i + kBlock / 2] = radius * std::sin(angle) * std + 0.0F;
  }
}

template <typename Narrow>
void make_wide_normal_block(MersenneTwister& generator, std::span<Narrow, kBlock> values,
                            TorchVersion version, double std) {
  std::array<float, kBlock> wide;
  if (version >= kFastWideNormals) {
    make_normal_block(generator, std::span(wide), std);
  } else {
    make_uniform(generator, std::span<float>(wide), 0.0F, 1.0F);
    make_normal_by_library(wide, rounded<Narrow>(std));
  }
  for (std::size_t i = 0; i < kBlock; ++i) values[i] = Narrow(wide[i]);
}

/// Each step is rounded to the type. Before 2.1 those of float16 that call a function are not.
template <typename Narrow>
void make_narrow_normal_block(MersenneTwister& generator, std::span<Narrow, kBlock> values,
                              TorchVersion version, double std) {
  make_narrow_uniform<Narrow>(generator, values, Narrow(0.0F), Narrow(1.0F));
  const bool rounds_functions = std::is_same_v<Narrow, Bfloat16> || version >= kNarrowFunctions;
  const auto step = [&](float value) { return rounds_functions ? Narrow(value) : value; };
  const float deviation = rounded<Narrow>(std);
  for (std::size_t i = 0; i < kBlock / 2; ++i) {
    const Narrow radius(std::sqrt(step(-2 * step(std::log(1 - values[i])))));
    const auto angle = rounded<Narrow>(kTwoPi * static_cast<double>(values[i + kBlock / 2]));
    values[i] = Narrow(step(radius * step(std::cos(angle))) * deviation + 0.0F);
    values[i + kBlock / 2] = Narrow(step(radius * step(std::sin(angle))) * deviation + 0.0F);
  }
}

/// Block after block. If the last one is not full, it is drawn anew for the last 16 elements; all but the
/// wide rule of 16-bit floats draw the values it would have used, too. Precondition: 16 elements or more.
template <typename Element>
Elements<Element> normal_elements(MersenneTwister& generator, TorchVersion version, std::uint64_t count,
                                  double std) {
  const bool is_wide = kIsNarrow<Element> && version >= kWideDraws;
  Elements<Element> elements(count);
  std::array<Element, kBlock> block;
  const auto make_block_at = [&](std::uint64_t at) {
    if constexpr (!kIsNarrow<Element>) {
      make_normal_block(generator, std::span(block), std);
    } else if (is_wide) {
      make_wide_normal_block(generator, std::span(block), version, std);
    } else {
      make_narrow_normal_block(generator, std::span(block), version, std);
    }
    elements.set(at, block);
  };
  const auto rest = count % kBlock;
  for (std::uint64_t at = 0; at + kBlock <= count; at += kBlock) make_block_at(at);
  if (rest == 0) return elements;
  std::array<std::uint32_t, 2 * kBlock> unused;
  if (!is_wide) generator.fill(std::span(unused).first(rest * (sizeof(Element) == 8 ? 2 : 1)));
  make_block_at(count - kBlock);
  return elements;
}

}  // namespace

bool can_be_drawn(Dtype dtype) {
  return dtype == Dtype::kFloat16 || dtype == Dtype::kBfloat16 || dtype == Dtype::kFloat32 ||
         dtype == Dtype::kFloat64;
}

Bytes TorchRandom::uniform(TorchVersion version, Dtype dtype, std::uint64_t count, double from, double to) {
  return with_element(dtype, [&](auto element) {
    return uniform_elements<decltype(element)>(generator_, version, count, from, to).take();
  });
}

double TorchRandom::next_normal(TorchVersion version) {
  if (spare_normal_) {
    const double value = *spare_normal_;
    spare_normal_.reset();
    return value;
  }
  std::array<double, 2> uniform;
  make_uniform(generator_, uniform, 0.0, 1.0);
  const double logarithm = version >= kLog1p ? std::log1p(-uniform[1]) : std::log(1 - uniform[1]);
  const double radius = std::sqrt(-2 * logarithm);
  const double angle = kTwoPi * uniform[0];
  spare_normal_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

Bytes TorchRandom::few_normal(TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  return with_element(dtype, [&](auto element) {
    Elements<decltype(element)> elements(count);
    elements.transform([&](auto) { return rounded<decltype(element)>(next_normal(version) * std + 0.0); });
    return std::move(elements).take();
  });
}

Bytes TorchRandom::normal(TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  if (count < kBlock) return few_normal(version, dtype, count, std);
  return with_element(dtype, [&](auto element) {
    return normal_elements<decltype(element)>(generator_, version, count, std).take();
  });
}

}  // namespace ckpt
