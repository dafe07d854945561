// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/magnitude_order.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

namespace ckpt {

template <typename Real>
void CutSearch<Real>::guess(std::span<Key> sample) {
  const auto size = static_cast<double>(sample.size());
  const auto share = static_cast<double>(place_) / static_cast<double>(numbers_);
  const auto deviation = std::max(std::sqrt(share * (1 - share)), 0.2) / std::sqrt(size);
  const auto reach = 6 * deviation;
  const auto at = [&](double wanted) {
    const auto place = static_cast<std::ptrdiff_t>(std::clamp(wanted * size, 0.0, size - 1));
    std::nth_element(sample.begin(), sample.begin() + place, sample.end(), std::greater<>());
    return sample[static_cast<std::size_t>(place)];
  };
  upper_ = share - reach <= 0 ? kGreatest : at(share - reach);
  lower_ = share + reach >= 1 ? 0 : at(share + reach);
  expected_ = static_cast<std::uint64_t>(2 * reach * static_cast<double>(numbers_));
}

template <typename Real>
void CutSearch<Real>::add(const MergeKernels<Real>& kernels, Chunk& chunk, const Real* x,
                          std::size_t count) const {
  if (is_counting_) {
    chunk.bins.resize(kBins);
    for (std::size_t i = 0; i < count; ++i) {
      const auto key = magnitude_key(x[i]);
      if (key >= lower_ && key <= upper_) ++chunk.bins[static_cast<std::size_t>((key - lower_) >> shift_)];
    }
    return;
  }
  std::array<Key, kMergeBlock> inside;
  const auto counts = kernels.collect(x, lower_, upper_, inside.data(), count);
  chunk.inside.insert(chunk.inside.end(), inside.begin(), inside.begin() + counts.between);
  chunk.counts.above += counts.above;
  chunk.counts.at_upper += counts.at_upper;
  chunk.counts.at_lower += counts.at_lower;
}

template <typename Real>
void CutSearch<Real>::end_chunk(std::uint64_t index, Chunk& chunk) {
  if (is_counting_) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < chunk.bins.size(); ++i) bins_[i] += chunk.bins[i];
    return;
  }
  total_above_ += chunk.counts.above;
  auto& part = parts_[index];
  part.at_upper = chunk.counts.at_upper;
  part.at_lower = chunk.counts.at_lower;
  if ((inside_ += chunk.inside.size()) <= std::max(most_inside_, 2 * expected_))
    part.inside.assign(chunk.inside.begin(), chunk.inside.end());
}

template <typename Real>
void CutSearch<Real>::count_within(Key low, Key high, std::uint64_t above) {
  is_counting_ = true;
  lower_ = low;
  upper_ = high;
  above_ = above;
  shift_ = 0;
  while (((high - low) >> shift_) >= kBins) ++shift_;
  bins_.assign(kBins, 0);
  for (auto& part : parts_) part = {};
}

template <typename Real>
void CutSearch<Real>::settle() {
  if (is_counting_) {
    settle_bins();
  } else {
    settle_interval();
  }
}

template <typename Real>
void CutSearch<Real>::settle_bins() {
  auto above = above_;
  for (auto bin = kBins; bin-- > 0; above += bins_[bin]) {
    if (above + bins_[bin] < place_) continue;
    const auto low = static_cast<Key>(lower_ + (static_cast<Key>(bin) << shift_));
    const auto high = std::min<Key>(upper_, static_cast<Key>(low + ((Key{1} << shift_) - 1)));
    if (bins_[bin] > most_inside_ && low < high) return count_within(low, high, above);
    is_counting_ = false;
    lower_ = low;
    upper_ = high;
    expected_ = bins_[bin];
    inside_ = 0;
    total_above_ = 0;
    bins_ = {};
    return;
  }
}

template <typename Real>
void CutSearch<Real>::settle_interval() {
  std::uint64_t at_upper = 0;
  std::uint64_t at_lower = 0;
  for (const auto& part : parts_) {
    at_upper += part.at_upper;
    at_lower += part.at_lower;
  }
  const std::uint64_t above = total_above_;
  const std::uint64_t inside = inside_;
  if (place_ <= above) return count_within(static_cast<Key>(upper_ + 1), kGreatest, 0);
  if (place_ <= above + at_upper)
    return found(upper_, place_ - above, [](const Part& part) { return part.at_upper; });
  if (place_ > above + at_upper + inside + at_lower)
    return count_within(0, static_cast<Key>(lower_ - 1), above + at_upper + inside + at_lower);
  if (place_ > above + at_upper + inside)
    return found(lower_, place_ - above - at_upper - inside, [](const Part& part) { return part.at_lower; });
  if (inside > std::max(most_inside_, 2 * expected_))
    return count_within(lower_, upper_, above);  // more than memory was meant for
  std::vector<Key> keys;
  keys.reserve(inside);
  for (const auto& part : parts_) keys.insert(keys.end(), part.inside.begin(), part.inside.end());
  const auto wanted = place_ - above - at_upper;  // so many of them
  const auto last = keys.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
  std::nth_element(keys.begin(), last, keys.end(), std::greater<>());
  const auto key = *last;
  const auto greater =
      static_cast<std::uint64_t>(std::count_if(keys.begin(), last, [&](Key other) { return other > key; }));
  keys = {};
  found(key, wanted - greater, [key](const Part& part) {
    return static_cast<std::uint64_t>(std::count(part.inside.begin(), part.inside.end(), key));
  });
}

template <typename Real>
template <typename Equals>
void CutSearch<Real>::found(Key key, std::uint64_t taken, Equals equals) {
  cut_.key = key;
  cut_.taken = taken;
  std::uint64_t before = 0;
  for (const auto& part : parts_) {
    cut_.equals_before.push_back(before);
    before += equals(part);
  }
  cut_.equals = before;
  cut_.splits_equals = taken < before;
  if (!cut_.splits_equals) cut_.equals_before = {};
  parts_ = {};
  is_found_ = true;
}

template class CutSearch<float>;
template class CutSearch<double>;

}  // namespace ckpt
