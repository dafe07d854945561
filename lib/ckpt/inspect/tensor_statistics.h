// SPDX-License-Identifier: BSD-3-Clause
// Statistics of the values of tensors. Bytes are read once, by as many threads as there are processors, some
// megabytes at a time; what comes out does not depend on their number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/statistics.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

struct TensorStatistics {
  Statistics values;
  std::optional<Histogram> histogram;  ///< of real values, if some are finite
  /// Why there are none: "composite" (sparse, quantised, nested, a wrapper), "no-data", "dtype",
  /// "compressed", "overlapping" (many more elements than those of the storage). Else empty.
  std::string_view missing;
};

struct StatisticsOptions {
  std::size_t bins = 0;     ///< of the histogram; 0: none. They need another look at the bytes.
  std::size_t threads = 0;  ///< 0: one a processor
};

/// Of each of `tensors`, in their order. An expanded tensor costs what its storage costs. Lazy negation is
/// part of the values, as is lazy conjugation, which changes nothing here. Errors: kCorrupt, kIo.
CKPT_EXPORT Result<std::vector<TensorStatistics>> tensor_statistics(const Checkpoint& checkpoint,
                                                                    std::span<const TensorId> tensors,
                                                                    const StatisticsOptions& options,
                                                                    Progress* progress);

}  // namespace ckpt
