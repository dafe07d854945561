// SPDX-License-Identifier: BSD-3-Clause
// The segments of an output whose bytes are computed. They come in any order, from many threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "ckpt/base/progress.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/computed_source.h"
#include "ckpt/format/layout.h"
#include "ckpt/io/byte_sink.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

class ComputedSegments {
 public:
  /// Finds them. All must outlive this.
  ComputedSegments(const OutputPart& output, const Checkpoint& checkpoint);

  bool empty() const { return works_.empty(); }

  bool contains(std::size_t segment) const { return sums_.contains(segment); }

  /// CRC-32 of a kSummedCopy among them. Precondition: they were written.
  std::uint32_t checksum(std::size_t segment) const { return sums_.at(segment); }

  /// Bytes in all of them.
  std::uint64_t size() const { return size_; }

  /// Writes all of them ahead. Precondition: the sink can.
  Status write_ahead(ByteSink& sink, Progress* progress, const ComputeOptions& options);

  /// Computes those that may find something out, for nothing but that.
  Status rehearse(Progress* progress, const ComputeOptions& options) const;

 private:
  /// What one source computes.
  struct Work {
    const ComputedSource* source = nullptr;
    std::vector<Extent> pieces;            ///< in the source
    std::vector<std::size_t> segments;     ///< of each piece; those behind are of other sources' inputs
    std::vector<std::uint64_t> positions;  ///< in the output

    /// Bytes of its own in the output?
    bool is_written() const { return !segments.empty(); }
  };

  void add_inner();
  static ComputeOptions options_for(const Work& work, const ComputeOptions& options);

  const OutputPart& output_;
  std::vector<Work> works_;
  std::map<std::size_t, std::uint32_t> sums_;  ///< by index of the segment
  std::uint64_t size_ = 0;
};

}  // namespace ckpt
