// SPDX-License-Identifier: BSD-3-Clause
// Means on a sphere as sums of vectors: with the inner products of the vectors known, every one of these
// methods is a factor for each vector, however many steps it takes to find.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace ckpt {

/// Inner products of vectors.
class Gram {
 public:
  explicit Gram(std::size_t size) : size_(size), products_(size * size) {}

  std::size_t size() const { return size_; }

  double& at(std::size_t i, std::size_t j) { return products_[i * size_ + j]; }

  double at(std::size_t i, std::size_t j) const { return products_[i * size_ + j]; }

  double norm(std::size_t i) const;
  /// Of two sums of the vectors.
  double product(std::span<const double> a, std::span<const double> b) const;

 private:
  std::size_t size_;
  std::vector<double> products_;
};

/// Of two vectors: from the first to the second by `t`.
std::vector<double> slerp_factors(const Gram& gram, double t);
std::vector<double> nuslerp_factors(const Gram& gram, double t);
/// Nothing where the weighted vectors cancel each other out.
std::optional<std::vector<double>> multislerp_factors(const Gram& gram, std::span<const double> weights,
                                                      bool normalize, double eps);
std::vector<double> karcher_factors(const Gram& gram, int max_iter, double tol);
/// How far to go from the base to the mean of the vectors, which are changes of it.
double model_stock_share(const Gram& gram);

}  // namespace ckpt
