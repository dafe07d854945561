// SPDX-License-Identifier: BSD-3-Clause
// The values of a layer that was just made: those of nn.Linear, nn.ConvNd or nn.ConvTransposeNd after their
// constructors, or after a function of torch.nn.init on the weight.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/init_method.h"
#include "ckpt/compute/torch_random.h"
#include "ckpt/compute/torch_version.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// Elements as they lie in memory, in row-major order, little-endian.
struct InitialValues {
  Bytes weight;
  /// In place of `weight` where it is large: drawn while it is read.
  std::shared_ptr<const ByteSource> large_weight;
  Bytes bias;  ///< empty if the layer has none
};

/// Weights of more bytes come as sources, since drawing them again costs less than fresh memory; but for
/// truncated normal values, which are drawn as a whole.
inline constexpr std::uint64_t kLargeWeight = std::uint64_t{1} << 20U;

/// The values of a layer, drawn from `random` in PyTorch's order: the weight, then with `default` the bias,
/// which is zero with all other methods. Several layers made one after the other take one `random`.
///
/// `weight_shape` is (out, in / groups, kernel…), or if `transposed` (in, out / groups, kernel…); without a
/// kernel it is a linear layer. The bias has `out` elements.
///
/// With `default`, and the methods that draw uniform or normal values, the bits are those of PyTorch; what
/// limits that is said at TorchRandom and trunc_normal.
///
/// A weight of more than `large_weight` bytes may come as a source.
///
/// kUnsupported: a dtype that can't be drawn; a weight of less than two dimensions, or of more bytes than
///   can be counted.
/// kUsage: a standard deviation or gain that makes values too large for the dtype.
CKPT_EXPORT Result<InitialValues> initial_layer(TorchRandom& random, const InitMethod& method,
                                                TorchVersion version, Dtype dtype,
                                                std::span<const std::int64_t> weight_shape, bool has_bias,
                                                bool transposed, std::int64_t groups = 1,
                                                std::uint64_t large_weight = kLargeWeight);

}  // namespace ckpt
