// SPDX-License-Identifier: BSD-3-Clause
// Gathers on a GPU: what a view reaches goes up through pinned buffers, is gathered and converted there, and
// comes down dense. Reading, the three streams of the GPU and writing overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/compute/device.h"
#include "ckpt/compute/gathered_source.h"

namespace ckpt {

/// A whole result, and where it goes.
struct DeviceGather {
  const Gather* gather = nullptr;
  std::size_t piece = 0;     ///< of those that are produced
  std::uint64_t offset = 0;  ///< in the piece, bytes
  bool is_repeat = false;    ///< the same result goes to a piece before, where a watch looked at it
};

/// Elements from the first that a view reaches to the last. Precondition: it has one.
std::uint64_t device_reach(const Gather& gather);

/// Sizes and strides of a launch whose target is dense, in the order of the view's shape.
void set_dense_target(const Gather& gather, CkptGather& launch);

/// Would the GPU do it, and is it large enough to be sent? Not lazy bits, conversions that it does not have,
/// more than eight dimensions, and views of which most is not wanted. Whoever watches a cast looks at both
/// sides here, so those must be in order.
bool suits_device(const Device& device, const Gather& gather);

/// Computes all that the memory of the GPU holds; returns the indices of the others. The bytes are those of
/// the processor. Preconditions: `suits_device`. Errors: kBackend; those of the sources and of `deliver`.
Result<std::vector<std::size_t>> gather_on_device(const Device& device, std::span<const DeviceGather> gathers,
                                                  std::size_t threads, const ComputedSource::Deliver& deliver,
                                                  const std::function<void()>& report);

}  // namespace ckpt
