// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/execute.h"

#include <algorithm>

namespace ckpt {
namespace {

constexpr std::uint64_t kProgressStep = 64U << 20U;  // bytes between reports inside one copy

Status copy(const ByteSource& source, Extent extent, ByteSink& sink, Progress* progress,
            std::uint64_t total) {
  if (progress == nullptr) return sink.copy_from(source, extent);
  while (extent.size > 0) {
    const auto size = std::min(extent.size, kProgressStep);
    CKPT_RETURN_IF_ERROR(sink.copy_from(source, {extent.offset, size}));
    extent = {extent.offset + size, extent.size - size};
    progress->report(sink.position(), total);
  }
  return {};
}

}  // namespace

Status execute(const Layout& layout, std::size_t part, const Checkpoint& checkpoint, ByteSink& sink,
               Progress* progress) {
  const auto& output = layout.parts[part];
  for (const auto& segment : output.segments) {
    switch (segment.kind) {
      case Segment::Kind::kLiteral:
        CKPT_RETURN_IF_ERROR(sink.write(ByteView(layout.pool).subspan(segment.offset, segment.size)));
        break;
      case Segment::Kind::kCopy:
        CKPT_RETURN_IF_ERROR(copy(*checkpoint.parts[segment.source].source, {segment.offset, segment.size},
                                  sink, progress, output.size));
        break;
    }
  }
  if (progress != nullptr) progress->report(sink.position(), output.size);
  return {};
}

}  // namespace ckpt
