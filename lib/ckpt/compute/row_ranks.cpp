// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/row_ranks.h"

#include <algorithm>
#include <array>
#include <bit>

#include "ckpt/compute/merge_kernels.h"

namespace ckpt {
namespace {

constexpr double kRange = 0x1p32;

/// The upper 32 bits that a magnitude has.
template <typename Key>
std::uint32_t upper_bits(Key key) {
  if constexpr (sizeof(Key) == 8) return static_cast<std::uint32_t>(key >> 31U);
  return static_cast<std::uint32_t>(key);
}

/// Sorts by the upper half of each word, in order where they are equal; the result is in `words`.
void sort_by_upper(std::vector<std::uint64_t>& words, std::vector<std::uint64_t>& other) {
  constexpr std::size_t kDigits = 3;
  constexpr std::array<unsigned, kDigits> kShifts = {32, 43, 54};
  constexpr std::size_t kValues = std::size_t{1} << 11U;
  std::array<std::array<std::uint32_t, kValues>, kDigits> counts{};
  for (const auto word : words) {
    for (std::size_t digit = 0; digit < kDigits; ++digit)
      ++counts[digit][word >> kShifts[digit] & (kValues - 1)];
  }
  other.resize(words.size());
  for (std::size_t digit = 0; digit < kDigits; ++digit) {
    auto& count = counts[digit];
    const auto shift = kShifts[digit];
    if (count[words[0] >> shift & (kValues - 1)] == words.size()) continue;  // all alike
    std::uint32_t place = 0;
    for (auto& each : count) {
      const auto size = each;
      each = place;
      place += size;
    }
    for (const auto word : words) other[count[word >> shift & (kValues - 1)]++] = word;
    words.swap(other);
  }
}

}  // namespace

template <typename Key>
void RowRanker::mark(std::span<const Key> keys, const RankedMask& mask, std::uint64_t first, std::size_t bit,
                     std::vector<std::uint64_t>& bits) {
  const auto size = keys.size();
  const auto keep = [&](std::size_t i, double probability) {
    if (static_cast<double>(merge_random(mask.key, first + i)) < probability * kRange)
      bits[(bit + i) / 64] |= std::uint64_t{1} << (bit + i) % 64;
  };
  if (size == 1) return keep(0, mask.density);
  order_.resize(size);
  // Greatest first: upper bits are turned round.
  for (std::size_t i = 0; i < size; ++i)
    order_[i] = static_cast<std::uint64_t>(~upper_bits(keys[i])) << 32U | static_cast<std::uint64_t>(i);
  sort_by_upper(order_, other_);
  const auto place = [](std::uint64_t word) { return static_cast<std::size_t>(word & 0xffffffffU); };
  if constexpr (sizeof(Key) == 8) {  // where upper bits are equal, the lower ones decide
    for (std::size_t i = 0; i < size;) {
      auto end = i + 1;
      bool differ = false;
      for (; end < size && order_[end] >> 32U == order_[i] >> 32U; ++end)
        differ = differ || keys[place(order_[end])] != keys[place(order_[i])];
      if (differ) {
        std::stable_sort(order_.begin() + static_cast<std::ptrdiff_t>(i),
                         order_.begin() + static_cast<std::ptrdiff_t>(end),
                         [&](std::uint64_t a, std::uint64_t b) { return keys[place(a)] > keys[place(b)]; });
      }
      i = end;
    }
  }
  const auto last = static_cast<double>(size - 1);
  for (std::size_t i = 0; i < size; ++i) {
    const auto share = static_cast<double>(size - 1 - i) / last;
    keep(place(order_[i]), mask.density - mask.epsilon + 2 * mask.epsilon * share);
  }
}

template void RowRanker::mark(std::span<const std::uint32_t> keys, const RankedMask& mask,
                              std::uint64_t first, std::size_t bit, std::vector<std::uint64_t>& bits);
template void RowRanker::mark(std::span<const std::uint64_t> keys, const RankedMask& mask,
                              std::uint64_t first, std::size_t bit, std::vector<std::uint64_t>& bits);

std::size_t RowHistogram::bin_of(double value) {
  return (std::bit_cast<std::uint32_t>(static_cast<float>(value)) & 0x7fffffffU) >> 11U;
}

void RowHistogram::settle() {
  std::uint64_t size = 0;
  for (const auto count : counts_) size += count;
  shares_.resize(kBins);
  double below = 0;
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    const auto count = static_cast<double>(counts_[bin]);
    shares_[bin] = static_cast<float>((below + (count - 1) / 2) / static_cast<double>(size - 1));
    below += count;
  }
  counts_ = {};
}

bool RowHistogram::keeps(double value, const RankedMask& mask, std::uint64_t number) const {
  const auto share = static_cast<double>(shares_[bin_of(value)]);
  const auto probability = mask.density - mask.epsilon + 2 * mask.epsilon * share;
  return static_cast<double>(merge_random(mask.key, number)) < probability * kRange;
}

}  // namespace ckpt
