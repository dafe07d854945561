// SPDX-License-Identifier: BSD-3-Clause
// The random values that PyTorch draws on a CPU with AVX2, without PyTorch: what `torch.manual_seed(seed)`
// followed by Tensor.uniform_ and Tensor.normal_ leaves in contiguous tensors.
#pragma once

#include <cstdint>
#include <optional>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/compute/mersenne_twister.h"
#include "ckpt/compute/torch_version.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Can tensors of it be drawn? float16, bfloat16, float32 and float64.
CKPT_EXPORT bool can_be_drawn(Dtype dtype);

/// One stream of random numbers; each call draws on from where the last one ended.
///
/// The functions give the elements of a tensor as they lie in memory, little-endian. They depend on nothing
/// but the arguments, except for what `normal` says.
/// Precondition of all: `can_be_drawn(dtype)`, and the bytes of `count` elements can be counted.
class CKPT_EXPORT TorchRandom {
 public:
  /// PyTorch uses the low 32 bits of the seed. A negative seed is its two's complement.
  explicit TorchRandom(std::uint64_t seed) : generator_(static_cast<std::uint32_t>(seed)) {}

  /// Uniform values from `from` up to `to`, with PyTorch's bits. 16-bit floats have another rule since 2.12.
  /// Precondition: both are of similar size and their difference is finite in `dtype`.
  Bytes uniform(TorchVersion version, Dtype dtype, std::uint64_t count, double from, double to);

  /// Normal values with mean 0 and this standard deviation, with PyTorch's bits. float64, less than 16 values
  /// of any dtype, and 16-bit floats before 2.13 come from the C library's logarithm, sine and cosine, so
  /// they are those of a PyTorch that uses the same library on the same kind of processor. Releases have
  /// other rules for less than 16 values (2.0), for float16 (2.1) and for both 16-bit floats (2.12, 2.13).
  Bytes normal(TorchVersion version, Dtype dtype, std::uint64_t count, double std);

 private:
  Bytes few_normal(TorchVersion version, Dtype dtype, std::uint64_t count, double std);
  double next_normal(TorchVersion version);

  MersenneTwister generator_;
  std::optional<double> spare_normal_;  ///< the second of a pair, which PyTorch keeps for the next call
};

}  // namespace ckpt
