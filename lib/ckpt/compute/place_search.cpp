// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/place_search.h"

#include <algorithm>

namespace ckpt {

PlaceSearch::PlaceSearch(std::uint64_t limit, std::uint64_t wanted, std::uint64_t count)
    : high_(limit), wanted_(wanted) {
  begin_pass(count);
}

/// `count`: places from `low_` on, before `high_`.
void PlaceSearch::begin_pass(std::uint64_t count) {
  found_.clear();
  is_counting_ = count > kMostKept;
  if (!is_counting_) return;
  found_.resize(kBins);
  shift_ = 0;
  while (((high_ - 1 - low_) >> shift_) >= kBins) ++shift_;
}

void PlaceSearch::end_chunk(const Chunk& chunk) {
  const std::lock_guard lock(mutex_);
  if (!is_counting_) {
    found_.insert(found_.end(), chunk.begin(), chunk.end());
    return;
  }
  for (std::size_t bin = 0; bin < chunk.size(); ++bin) found_[bin] += chunk[bin];
}

void PlaceSearch::settle() {
  if (!is_counting_) {
    wanted_ = std::min<std::uint64_t>(wanted_, found_.size());  // a file may change between two passes
    if (wanted_ == 0) {
      end_ = low_;
      return;
    }
    const auto last = found_.begin() + static_cast<std::ptrdiff_t>(wanted_ - 1);
    std::nth_element(found_.begin(), last, found_.end());
    end_ = *last + 1;
    found_ = {};
    return;
  }
  std::size_t bin = 0;
  for (; bin + 1 < kBins && found_[bin] < wanted_; ++bin) wanted_ -= found_[bin];
  const auto count = found_[bin];
  low_ += std::uint64_t{bin} << shift_;
  high_ = std::min(high_, low_ + (std::uint64_t{1} << shift_));
  begin_pass(count);
}

}  // namespace ckpt
