// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/trunc_normal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "ckpt/compute/elements.h"

namespace ckpt {
namespace {

constexpr TorchVersion kNormalDraws = {2, 12};  ///< the release that no longer inverts
constexpr double kBound = 2;

/// The normal distribution's share below x.
double share_below(double x) {
  return (1 + std::erf(x / std::numbers::sqrt2)) / 2;
}

/// x with erf(x) = y; infinite for 1 and -1. Precondition: |y| <= 1.
double inverse_erf(double y) {
  const double rest = 1 - std::abs(y);
  if (rest == 0) return std::copysign(std::numeric_limits<double>::infinity(), y);
  // Winitzki's formula is right to two thousandths; each of Halley's steps triples the digits.
  constexpr double kShape = 0.147;
  const double logarithm = std::log1p(-y * y);
  const double half = 2 / (std::numbers::pi * kShape) + logarithm / 2;
  double x = std::sqrt(std::sqrt(half * half - logarithm / kShape) - half);
  for (int step = 0; step < 3; ++step) {
    const double error = rest < 0.5 ? rest - std::erfc(x) : std::erf(x) - std::abs(y);
    const double newton = error * std::exp(x * x) * std::numbers::inv_sqrtpi_v<double> * std::numbers::pi / 2;
    x -= newton / (1 + x * newton);
  }
  return std::copysign(x, y);
}

/// Inverted one by one. Each operation rounds, as whole tensors are that go from one to the next.
template <typename Element>
Bytes by_inverting(TorchRandom& random, TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  const double low = 2 * share_below(-kBound / std) - 1;
  const double high = 2 * share_below(kBound / std) - 1;
  const auto scale = static_cast<Computed<Element>>(std * std::numbers::sqrt2);
  const auto bound = static_cast<Computed<Element>>(kBound);
  Elements<Element> values(random.uniform(version, dtype, count, low, high));
  values.transform([&](Element uniform) {
    const auto standard = rounded<Element>(inverse_erf(static_cast<double>(uniform)));
    return Element(std::clamp<Computed<Element>>(Element(standard * scale + 0), -bound, bound));
  });
  return std::move(values).take();
}

/// As long as any value lies outside, a whole tensor is drawn, and what lies outside takes from it.
template <typename Element>
Bytes by_redrawing(TorchRandom& random, TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  const auto is_outside = [](Element value) { return std::abs(static_cast<double>(value)) > kBound; };
  Elements<Element> values(random.normal(version, dtype, count, std));
  std::vector<std::uint64_t> outside;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (is_outside(values[i])) outside.push_back(i);
  }
  while (!outside.empty()) {
    const Elements<Element> drawn(random.normal(version, dtype, count, std));
    for (const auto i : outside) values.set(i, drawn[i]);
    std::erase_if(outside, [&](std::uint64_t i) { return !is_outside(values[i]); });
  }
  return std::move(values).take();
}

/// Uniform candidates, accepted as often as the density there is high; what is not takes from the next
/// tensor.
template <typename Element>
Bytes by_rejecting(TorchRandom& random, TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  const auto deviation = static_cast<Computed<Element>>(std);
  const auto log_density = [&](Element candidate) {  // less its peak, which is at 0
    const Element ratio(candidate / deviation);
    return Element(Element(ratio * ratio) * Computed<Element>(-0.5));
  };
  Elements<Element> values(count);
  std::vector<std::uint64_t> pending(count);
  for (std::uint64_t i = 0; i < count; ++i) pending[i] = i;
  while (!pending.empty()) {
    const Elements<Element> candidates(random.uniform(version, dtype, count, -kBound, kBound));
    const Elements<Element> chances(random.uniform(version, dtype, count, 0, 1));
    for (const auto i : pending) values.set(i, candidates[i]);
    std::erase_if(pending, [&](std::uint64_t i) {
      const auto chance = rounded<Element>(std::log(static_cast<double>(chances[i])));
      return !(chance > log_density(candidates[i]));
    });
  }
  return std::move(values).take();
}

}  // namespace

Bytes trunc_normal(TorchRandom& random, TorchVersion version, Dtype dtype, std::uint64_t count, double std) {
  const double inside = share_below(kBound / std) - share_below(-kBound / std);
  return with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    if (version < kNormalDraws) return by_inverting<Element>(random, version, dtype, count, std);
    if (inside > 0.3) return by_redrawing<Element>(random, version, dtype, count, std);
    return by_rejecting<Element>(random, version, dtype, count, std);
  });
}

}  // namespace ckpt
