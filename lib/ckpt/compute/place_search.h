// SPDX-License-Identifier: BSD-3-Clause
// Which of many places are the first ones, where places come in any order and do not fit memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// Finds the end of the first so many places, in passes over all of them: the last pass keeps those in
/// question, and others before it count how many lie where, if they are too many to be kept.
class CKPT_EXPORT PlaceSearch {
 public:
  /// `wanted`: places before the end, of `count` different ones below `limit`. Precondition: 0 < wanted <=
  /// count.
  PlaceSearch(std::uint64_t limit, std::uint64_t wanted, std::uint64_t count);

  bool is_found() const { return end_.has_value(); }

  /// As many places as are wanted are less than this. Precondition: `is_found`.
  std::uint64_t end() const { return *end_; }

  // One pass: `add` for every place of a chunk, by one thread, then `end_chunk`. After all: `settle`.
  using Chunk = std::vector<std::uint64_t>;  ///< places, or how many of them in each bin

  void add(Chunk& chunk, std::uint64_t place) const {
    if (place < low_ || place >= high_) return;
    if (!is_counting_) return chunk.push_back(place);
    chunk.resize(kBins);
    ++chunk[static_cast<std::size_t>((place - low_) >> shift_)];
  }

  void end_chunk(const Chunk& chunk);
  void settle();

 private:
  static constexpr std::size_t kBins = std::size_t{1} << 12U;
  static constexpr std::uint64_t kMostKept = std::uint64_t{1} << 18U;

  void begin_pass(std::uint64_t count);

  std::uint64_t low_ = 0;  ///< the wanted end is that of a place from here on, and before `high_`
  std::uint64_t high_;
  std::uint64_t wanted_;  ///< places from `low_` on
  bool is_counting_ = false;
  unsigned shift_ = 0;  ///< of a bin
  std::mutex mutex_;
  std::vector<std::uint64_t> found_;  ///< places, or how many of them in each bin
  std::optional<std::uint64_t> end_;
};

}  // namespace ckpt
