// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/sphere.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ckpt {
namespace {

/// NaN stays NaN.
double cosine_of(double value) {
  return value > 1 ? 1 : value < -1 ? -1 : value;
}

std::vector<double> on_the_arc(double cosine, double t) {
  const auto angle = std::acos(cosine);
  const auto sine = std::sin(angle);
  return {std::sin((1 - t) * angle) / sine, std::sin(t * angle) / sine};
}

/// out = out + factor * vector
void add_to(std::vector<double>& out, double factor, std::span<const double> vector) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += factor * vector[i];
}

void scale(std::vector<double>& out, double factor) {
  for (auto& value : out) value *= factor;
}

double norm_of(const Gram& gram, std::span<const double> sum) {
  return std::sqrt(std::max(gram.product(sum, sum), 0.0));  // NaN stays NaN
}

}  // namespace

double Gram::norm(std::size_t i) const {
  return std::sqrt(at(i, i));
}

double Gram::product(std::span<const double> a, std::span<const double> b) const {
  double sum = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    for (std::size_t j = 0; j < size_; ++j) sum += a[i] * b[j] * at(i, j);
  }
  return sum;
}

std::vector<double> slerp_factors(const Gram& gram, double t) {
  constexpr double kTiny = 1e-8;
  constexpr double kNearlyParallel = 0.9995;
  const auto length = [&](std::size_t i) { return gram.norm(i) > kTiny ? gram.norm(i) : 1.0; };
  const auto cosine = cosine_of(gram.at(0, 1) / length(0) / length(1));
  if (std::fabs(cosine) > kNearlyParallel) return {1 - t, t};
  return on_the_arc(cosine, t);
}

std::vector<double> nuslerp_factors(const Gram& gram, double t) {
  constexpr double kShortest = 1e-7;
  constexpr double kTiny = 1e-8;
  const auto length = [&](std::size_t i) { return std::max(gram.norm(i), kShortest); };
  const auto cosine = cosine_of(gram.at(0, 1) / length(0) / length(1));
  if (1 - cosine * cosine <= kTiny * kTiny) return {1 - t, t};
  return on_the_arc(cosine, t);
}

std::optional<std::vector<double>> multislerp_factors(const Gram& gram, std::span<const double> weights,
                                                      bool normalize, double eps) {
  const auto size = gram.size();
  std::vector<double> shares(weights.begin(), weights.end());
  if (normalize) {
    const auto sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    for (auto& share : shares) share /= sum;
  }
  std::vector<double> mean(size);  // of unit vectors
  double length = 0;
  for (std::size_t i = 0; i < size; ++i) {
    mean[i] = shares[i] / (gram.norm(i) + eps);
    length += shares[i] * gram.norm(i);
  }
  auto tangent = mean;
  const auto mean_norm = norm_of(gram, mean);
  if (mean_norm < eps) {
    if (size == 2) return shares;
    return std::nullopt;
  }
  scale(mean, 1 / mean_norm);
  const auto along = gram.product(tangent, mean);
  add_to(tangent, -along, mean);
  const auto angle = norm_of(gram, tangent) + eps;
  scale(mean, std::cos(angle) * length);
  add_to(mean, std::sin(angle) / angle * length, tangent);
  return mean;
}

std::vector<double> karcher_factors(const Gram& gram, int max_iter, double tol) {
  const auto size = gram.size();
  std::vector<std::size_t> valid;
  double length = 0;
  for (std::size_t i = 0; i < size; ++i) {
    length += gram.norm(i) / static_cast<double>(size);
    if (!(gram.norm(i) <= tol)) valid.push_back(i);
  }
  std::vector<double> out(size);
  if (valid.empty()) return out;
  Gram cosines(valid.size());
  for (std::size_t i = 0; i < valid.size(); ++i) {
    for (std::size_t j = 0; j < valid.size(); ++j)
      cosines.at(i, j) = gram.at(valid[i], valid[j]) / gram.norm(valid[i]) / gram.norm(valid[j]);
  }
  const auto share = 1 / static_cast<double>(valid.size());
  std::vector<double> mean(valid.size(), share);
  const auto start = norm_of(cosines, mean);
  if (start < tol) {
    std::fill(mean.begin(), mean.end(), 0.0);
    mean[0] = 1;
  } else {
    scale(mean, 1 / start);
  }
  std::vector<double> unit(valid.size());
  for (int step = 0; step < max_iter; ++step) {
    std::vector<double> tangent(valid.size());
    for (std::size_t i = 0; i < valid.size(); ++i) {
      std::fill(unit.begin(), unit.end(), 0.0);
      unit[i] = 1;
      const auto dot = cosine_of(cosines.product(mean, unit));
      const auto angle = std::acos(dot);
      if (angle < tol) continue;
      const auto factor = share * (angle / std::sin(angle));
      tangent[i] += factor;
      add_to(tangent, -factor * dot, mean);
    }
    const auto reach = norm_of(cosines, tangent);
    if (reach < tol) break;
    scale(mean, std::cos(reach));
    add_to(mean, std::sin(reach) / reach, tangent);
    const auto norm = norm_of(cosines, mean);
    if (norm > tol) scale(mean, 1 / norm);
  }
  for (std::size_t i = 0; i < valid.size(); ++i) out[valid[i]] = length * mean[i] / gram.norm(valid[i]);
  return out;
}

double model_stock_share(const Gram& gram) {
  constexpr double kTiny = 1e-6;
  double sum = 0;
  double pairs = 0;
  for (std::size_t i = 0; i < gram.size(); ++i) {
    for (std::size_t j = i + 1; j < gram.size(); ++j) {
      const auto norms = gram.norm(i) * gram.norm(j);
      sum += cosine_of(gram.at(i, j) / (norms < kTiny ? kTiny : norms));
      ++pairs;
    }
  }
  const auto cosine = sum / pairs;
  const auto count = static_cast<double>(gram.size());
  const auto denominator = 1 + (count - 1) * cosine;
  return std::fabs(denominator) < kTiny ? 0 : count * cosine / denominator;
}

}  // namespace ckpt
