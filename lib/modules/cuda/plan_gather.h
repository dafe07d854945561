// SPDX-License-Identifier: BSD-3-Clause
// Which kernels do a gather, and with which numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"
#include "modules/cuda/launch.h"

namespace ckpt::cuda {

/// A copy without a change.
struct CopyLaunch {
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  std::uint64_t bytes = 0;
};

using Launch = std::variant<CopyLaunch, GroupLaunch, TurnLaunch>;

/// In any order: no two of them write the same element. Addresses replace the views' buffers.
/// Errors: kUnsupported for ranks, dtypes and orders of bytes that no kernel has.
Result<std::vector<Launch>> plan_gather(const CkptGather& gather, const std::byte* source, std::byte* target);

/// Errors: kUnsupported for sizes beyond 2^63.
Result<RowsLaunch> plan_rows(const CkptRows& rows, const std::byte* source, std::byte* target,
                             const std::int64_t* table);

/// Bytes behind the views' offsets that a gather reads and writes.
Result<Place> reach_of(const CkptGather& gather);

}  // namespace ckpt::cuda
