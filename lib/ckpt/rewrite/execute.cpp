// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/execute.h"

#include <algorithm>
#include <map>
#include <span>

#include "ckpt/base/crc32.h"
#include "ckpt/rewrite/computed_segments.h"

namespace ckpt {
namespace {

constexpr std::uint64_t kProgressStep = 64U << 20U;  // bytes between reports inside one copy
constexpr std::uint64_t kSumChunk = 1U << 20U;
constexpr std::uint64_t kLeastByKernel = 64U << 10U;
constexpr std::uint64_t kPage = 4096;  // what file systems share

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

/// A copy piece by piece. Where blocks might be shared the kernel copies, and what it copied is read for the
/// checksum while it is in memory; all else is read once and written.
Result<std::uint32_t> copy_and_sum(const ByteSource& source, Extent extent, ByteSink& sink,
                                   Progress* progress, std::uint64_t total) {
  std::uint32_t sum = 0;
  Bytes buffer(std::min(extent.size, kSumChunk));
  while (extent.size > 0) {
    const auto piece = std::span(buffer).first(std::min(extent.size, kSumChunk));
    const bool by_kernel = source.descriptor() >= 0 && piece.size() >= kLeastByKernel &&
                           extent.offset % kPage == sink.position() % kPage;
    if (by_kernel) CKPT_RETURN_IF_ERROR(sink.copy_from(source, {extent.offset, piece.size()}));
    CKPT_RETURN_IF_ERROR(source.read_at(extent.offset, piece));
    if (!by_kernel) CKPT_RETURN_IF_ERROR(sink.write(piece));
    sum = crc32(sum, piece);
    extent = {extent.offset + piece.size(), extent.size - piece.size()};
    if (progress != nullptr) progress->report(sink.position(), total);
  }
  return sum;
}

/// Counts bytes that were written ahead from the beginning.
class ProgressAhead final : public Progress {
 public:
  ProgressAhead(Progress* inner, std::uint64_t ahead) : inner_(inner), ahead_(ahead) {}

  void report(std::uint64_t done, std::uint64_t total) override { inner_->report(done + ahead_, total); }

  void passed(std::uint64_t size) { ahead_ -= size; }

 private:
  Progress* inner_;
  std::uint64_t ahead_;
};

}  // namespace

Status execute(const Layout& layout, std::size_t part, const Checkpoint& checkpoint, ByteSink& sink,
               Progress* progress, const ComputeOptions& options) {
  const auto& output = layout.parts[part];
  ComputedSegments computed(output, checkpoint);
  const bool ahead = sink.writes_ahead();
  if (ahead) {
    CKPT_RETURN_IF_ERROR(computed.write_ahead(sink, progress, options));
  } else {
    CKPT_RETURN_IF_ERROR(computed.rehearse(nullptr, options));  // before anything leaves
  }
  ProgressAhead counted(progress, ahead ? computed.size() : 0);
  if (progress != nullptr) progress = &counted;
  std::map<std::uint64_t, std::uint32_t> sums;  // by index of the segment
  for (std::size_t i = 0; i < output.segments.size(); ++i) {
    const auto& segment = output.segments[i];
    const Extent extent{segment.offset, segment.size};
    if (ahead && computed.contains(i)) {
      CKPT_RETURN_IF_ERROR(sink.skip(segment.size));
      counted.passed(segment.size);
      sums[i] = computed.checksum(i);
      continue;
    }
    switch (segment.kind) {
      case Segment::Kind::kLiteral:
        CKPT_RETURN_IF_ERROR(sink.write(ByteView(layout.pool).subspan(segment.offset, segment.size)));
        break;
      case Segment::Kind::kCopy:
        CKPT_RETURN_IF_ERROR(
            copy(*checkpoint.parts[segment.source].source, extent, sink, progress, output.size));
        break;
      case Segment::Kind::kSummedCopy: {
        const auto& source = *checkpoint.parts[segment.source].source;
        CKPT_ASSIGN_OR_RETURN(sums[i], copy_and_sum(source, extent, sink, progress, output.size));
        break;
      }
      case Segment::Kind::kChecksum: {
        Bytes bytes;
        append_le(bytes, sums.at(segment.offset));
        CKPT_RETURN_IF_ERROR(sink.write(bytes));
        break;
      }
    }
  }
  if (progress != nullptr) progress->report(sink.position(), output.size);
  return {};
}

Status rehearse(const Layout& layout, std::size_t part, const Checkpoint& checkpoint, Progress* progress,
                const ComputeOptions& options) {
  return ComputedSegments(layout.parts[part], checkpoint).rehearse(progress, options);
}

std::uint64_t moved_bytes(const Layout& layout, std::size_t part, const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const auto& segment : layout.parts[part].segments) {
    if (segment.copies() && checkpoint.parts[segment.source].source->descriptor() >= 0) bytes += segment.size;
  }
  return bytes;
}

std::uint64_t computed_bytes(const Layout& layout, std::size_t part, const Checkpoint& checkpoint) {
  return ComputedSegments(layout.parts[part], checkpoint).size();
}

}  // namespace ckpt
