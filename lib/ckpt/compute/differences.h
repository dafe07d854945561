// SPDX-License-Identifier: BSD-3-Clause
// How far the values of a tensor are from those of another: what a fine-tune changed, and by how much.
#pragma once

#include <cstdint>
#include <optional>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// A sum of products that may lie beyond the range of a float64: value · 2^(600 · scale).
struct ScaledSum {
  double value = 0;
  int scale = 0;
};

/// Sums over pairs of values x (of the file) and b (of the base), in float64. Of complex values the parts are
/// added up, and sizes are moduli.
struct Differences {
  std::uint64_t count = 0;       ///< pairs
  std::uint64_t not_finite = 0;  ///< pairs of which one is NaN or infinite, which are in none of the sums
  double largest = 0;            ///< |x - b|
  ScaledSum squares;             ///< Σ |x - b|²
  ScaledSum base_squares;        ///< Σ |b|²
  ScaledSum file_squares;        ///< Σ |x|²
  ScaledSum products;            ///< Σ x·b, the real part

  /// ‖x - b‖ / ‖b‖, 0 where both are 0. Nothing where only the base is 0.
  CKPT_EXPORT std::optional<double> relative_norm() const;
  /// Of the angle between x and b as vectors. Nothing where one of them is 0.
  CKPT_EXPORT std::optional<double> cosine() const;
};

/// Can values of the dtype be subtracted? Not those of less than a byte, and not raw bits.
CKPT_EXPORT bool has_differences(Dtype dtype);

/// Of little-endian values, whole items, equally many. The same on any processor. Precondition:
/// `has_differences`.
CKPT_EXPORT Differences differences_of(Dtype dtype, ByteView file, ByteView base);

/// Adds those of other pairs. Sums are rounded, so the order matters in the last bits.
CKPT_EXPORT void add_differences(Differences& sum, const Differences& next);

}  // namespace ckpt
