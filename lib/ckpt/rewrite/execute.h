// SPDX-License-Identifier: BSD-3-Clause
// Layout → bytes. The only place that moves tensor bytes.
#pragma once

#include "ckpt/base/export.h"
#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_sink.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Writes part `part` of `layout` to `sink`; kCopy segments come from `checkpoint.parts`. `progress` may be
/// null. Errors: kIo; kCorrupt when an input is shorter than when it was read.
CKPT_EXPORT Status execute(const Layout& layout, std::size_t part, const Checkpoint& checkpoint,
                           ByteSink& sink, Progress* progress);

}  // namespace ckpt
