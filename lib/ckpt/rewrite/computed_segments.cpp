// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/rewrite/computed_segments.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>

#include "ckpt/base/crc32.h"

namespace ckpt {
namespace {

/// The checksum of a piece that comes block by block, in any order. Blocks that touch become one.
class PieceSum {
 public:
  void add(std::uint64_t offset, ByteView bytes) {
    Block block{bytes.size(), crc32(0, bytes)};
    const std::lock_guard lock(mutex_);
    auto next = blocks_.lower_bound(offset);
    if (next != blocks_.end() && next->first == offset + block.size) {
      block = joined(block, next->second);
      next = blocks_.erase(next);
    }
    if (next != blocks_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second.size == offset) {
        before->second = joined(before->second, block);
        return;
      }
    }
    blocks_.emplace_hint(next, offset, block);
  }

  std::uint32_t value() const { return blocks_.empty() ? 0 : blocks_.begin()->second.sum; }

 private:
  struct Block {
    std::uint64_t size;
    std::uint32_t sum;
  };

  static Block joined(const Block& first, const Block& second) {
    return {first.size + second.size, crc32_of_both(first.sum, second.sum, second.size)};
  }

  std::mutex mutex_;
  std::map<std::uint64_t, Block> blocks_;  ///< by offset
};

using Extents = std::vector<Extent>;

/// The same bytes in order, each once.
Extents joined(Extents extents) {
  std::sort(extents.begin(), extents.end(),
            [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  Extents out;
  for (const auto& extent : extents) {
    if (!out.empty() && extent.offset <= out.back().end()) {
      out.back().size = std::max(out.back().end(), extent.end()) - out.back().offset;
    } else if (extent.size > 0) {
      out.push_back(extent);
    }
  }
  return out;
}

/// Those bytes that `taken` has not. Precondition: both are joined.
Extents without(const Extents& extents, const Extents& taken) {
  Extents out;
  auto next = taken.begin();
  for (const auto& extent : extents) {
    auto begin = extent.offset;
    while (next != taken.end() && next->end() <= begin) ++next;
    for (auto other = next; other != taken.end() && other->offset < extent.end(); ++other) {
      if (other->offset > begin) out.push_back({begin, other->offset - begin});
      begin = other->end();
    }
    if (begin < extent.end()) out.push_back({begin, extent.end() - begin});
  }
  return out;
}

}  // namespace

ComputedSegments::ComputedSegments(const OutputPart& output, const Checkpoint& checkpoint) : output_(output) {
  std::vector<const ComputedSource*> computed;  // by part of the checkpoint
  for (const auto& part : checkpoint.parts)
    computed.push_back(dynamic_cast<const ComputedSource*>(part.source.get()));
  std::map<const ComputedSource*, std::size_t> known;
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < output.segments.size(); ++i) {
    const auto& segment = output.segments[i];
    const auto* source = segment.copies() ? computed[segment.source] : nullptr;
    if (source != nullptr) {
      const auto [found, is_new] = known.emplace(source, works_.size());
      if (is_new) works_.push_back({source, {}, {}, {}});
      auto& work = works_[found->second];
      work.pieces.push_back({segment.offset, segment.size});
      work.segments.push_back(i);
      work.positions.push_back(position);
      sums_.emplace(i, 0);
      size_ += segment.size;
    }
    position += segment.size;
  }
  add_inner();
}

/// What others read may find something out, too: it is computed for that once more.
void ComputedSegments::add_inner() {
  std::map<const ComputedSource*, Extents> inner;
  std::set<std::tuple<const ComputedSource*, std::uint64_t, std::uint64_t>> seen;
  std::vector<SourceStretch> left;
  for (const auto& work : works_) {
    for (const auto& piece : work.pieces) left.push_back({work.source, piece});
  }
  std::vector<SourceStretch> inputs;
  while (!left.empty()) {
    const auto stretch = left.back();
    left.pop_back();
    inputs.clear();
    dynamic_cast<const ComputedSource&>(*stretch.source).add_inputs(stretch.extent, inputs);
    for (const auto& input : inputs) {
      const auto* source = dynamic_cast<const ComputedSource*>(input.source);
      const auto& extent = input.extent;
      if (source == nullptr || !seen.emplace(source, extent.offset, extent.size).second) continue;
      left.push_back(input);
      if (source->has_verdict()) inner[source].push_back(extent);
    }
  }
  for (auto& [source, extents] : inner) {
    auto work = std::find_if(works_.begin(), works_.end(),
                             [&, wanted = source](const Work& other) { return other.source == wanted; });
    if (work == works_.end()) work = works_.insert(works_.begin(), Work{source, {}, {}, {}});
    const auto more = without(joined(std::move(extents)), joined(work->pieces));
    work->pieces.insert(work->pieces.end(), more.begin(), more.end());
  }
}

Status ComputedSegments::write_ahead(ByteSink& sink, Progress* progress, const ComputeOptions& options) {
  std::atomic<std::uint64_t> done = 0;
  const auto report = [&] {
    if (progress != nullptr) progress->report(done, output_.size);
  };
  for (const auto& work : works_) {
    std::vector<PieceSum> sums(work.pieces.size());
    const auto deliver = [&](std::size_t piece, std::uint64_t offset, ByteView bytes) -> Status {
      if (piece >= work.segments.size()) return {};
      if (output_.segments[work.segments[piece]].kind == Segment::Kind::kSummedCopy)
        sums[piece].add(offset, bytes);
      done += bytes.size();
      return sink.write_ahead(work.positions[piece] + offset, bytes);
    };
    CKPT_RETURN_IF_ERROR(work.source->produce(work.pieces, options_for(work, options), deliver, report));
    for (std::size_t i = 0; i < work.segments.size(); ++i) sums_[work.segments[i]] = sums[i].value();
  }
  return {};
}

Status ComputedSegments::rehearse(Progress* progress, const ComputeOptions& options) const {
  std::atomic<std::uint64_t> done = 0;
  const auto deliver = [&](std::size_t, std::uint64_t, ByteView bytes) {
    done += bytes.size();
    return Status();
  };
  const auto report = [&] {
    if (progress != nullptr) progress->report(std::min<std::uint64_t>(done, size_), size_);
  };
  for (const auto& work : works_) {
    if (work.source->has_verdict())
      CKPT_RETURN_IF_ERROR(work.source->produce(work.pieces, options_for(work, options), deliver, report));
  }
  return {};
}

/// Bytes that others read are computed by the native kernels, so these are what is looked at.
ComputeOptions ComputedSegments::options_for(const Work& work, const ComputeOptions& options) {
  return work.is_written() ? options : ComputeOptions{options.threads, nullptr, nullptr};
}

}  // namespace ckpt
