// SPDX-License-Identifier: BSD-3-Clause
// Layout → bytes. The only place that moves tensor bytes.
#pragma once

#include "ckpt/base/export.h"
#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_sink.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Writes part `part` of `layout` to `sink`; kCopy segments come from `checkpoint.parts`. Computed bytes are
/// written first, by as many threads as `options` says, where the sink can write ahead. `progress` may be
/// null. Errors: kIo; kCorrupt when an input is shorter than when it was read; what computed sources refuse.
CKPT_EXPORT Status execute(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
                           ByteSink& sink, Progress* progress, const ComputeOptions& options = {});

/// Finds out what `execute` would about values, for a dry run: computes them where a report needs them or
/// they may be refused, and writes nothing. Errors: those of `execute`, but for writing.
CKPT_EXPORT Status rehearse(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
                            Progress* progress, const ComputeOptions& options = {});

/// Bytes of the output that lie in files already; the others are spelled, computed or drawn.
CKPT_EXPORT std::uint64_t moved_bytes(const Layout& layout, std::size_t part, const Checkpoint& checkpoint);

/// Bytes of the output that `execute` computes.
CKPT_EXPORT std::uint64_t computed_bytes(const Layout& layout, std::size_t part,
                                         const Checkpoint& checkpoint);

}  // namespace ckpt
