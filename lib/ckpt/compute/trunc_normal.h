// SPDX-License-Identifier: BSD-3-Clause
// nn.init.trunc_normal_ with its own bounds: normal values that lie between -2 and 2.
#pragma once

#include <cstdint>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/compute/torch_random.h"
#include "ckpt/compute/torch_version.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// The elements of a tensor, drawn as the release draws them.
///
/// Since 2.12 they are `normal`, and those outside are drawn again; where less than 30 % would lie inside,
/// uniform values are drawn and some are kept. Before, they are the inverse error function of uniform values,
/// whose last bits depend on the library that PyTorch was built with: ours are the nearest to the true value.
/// Preconditions: those of TorchRandom, and std > 0.
CKPT_EXPORT Bytes trunc_normal(TorchRandom& random, TorchVersion version, Dtype dtype, std::uint64_t count,
                               double std);

}  // namespace ckpt
