// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/row_ranks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace ckpt {
namespace {

constexpr double kRange = 0x1p32;
constexpr std::size_t kLeastByDepth = 64;  ///< numbers of a row
constexpr std::size_t kShortRow = 2048;
constexpr std::size_t kOctaves = 8;
constexpr std::size_t kMostOpen = 64;  ///< numbers whose place is found by looking at the whole row

/// How far a key is below the greatest: 5 bits of exponent, which is 32 octaves, and then bits of the number,
/// 32 in all. What is still smaller has the same.
template <typename Key>
std::uint32_t depth_of(Key greatest, Key key) {
  constexpr unsigned kFraction = sizeof(Key) == 8 ? 52 : 23;
  constexpr auto kMost = (Key{1} << (kFraction + 5)) - 1;
  const auto depth = std::min<Key>(static_cast<Key>(greatest - key), kMost);
  if constexpr (sizeof(Key) == 8) {
    return static_cast<std::uint32_t>(depth >> (kFraction + 5 - 32));
  } else {
    return static_cast<std::uint32_t>(depth << (32 - kFraction - 5));
  }
}

/// Random bits below this one keep a number.
std::uint64_t threshold_of(double probability) {
  return static_cast<std::uint64_t>(std::ceil(probability * kRange));
}

/// Bits of a digit: short rows have digits of few values, as it takes a while to add up how often each
/// occurs.
constexpr unsigned digit_bits(std::size_t size) {
  return size <= 8192 ? 8 : 11;
}

/// Sorts by the upper two digits, in order where they are equal; the result is in `words`.
template <unsigned kBits>
void sort_by_upper(std::vector<std::uint64_t>& words, std::vector<std::uint64_t>& other) {
  constexpr std::array<unsigned, 2> kShifts = {64 - 2 * kBits, 64 - kBits};
  constexpr std::size_t kValues = std::size_t{1} << kBits;
  std::array<std::array<std::uint32_t, kValues>, kShifts.size()> counts{};
  for (const auto word : words) {
    for (std::size_t digit = 0; digit < kShifts.size(); ++digit)
      ++counts[digit][word >> kShifts[digit] & (kValues - 1)];
  }
  other.resize(words.size());
  for (std::size_t digit = 0; digit < kShifts.size(); ++digit) {
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

std::size_t number_of(std::uint64_t word) {
  return static_cast<std::size_t>(word & 0xffffffffU);
}

/// Sorts what the bits from `shift` on did not tell apart, by whole keys.
template <typename Key>
void sort_runs(std::vector<std::uint64_t>& words, std::span<const Key> keys, unsigned shift) {
  const auto is_before = [&](std::uint64_t a, std::uint64_t b) {
    const auto key = keys[number_of(a)];
    const auto other = keys[number_of(b)];
    return key != other ? key > other : number_of(a) < number_of(b);
  };
  for (std::size_t i = 1; i < words.size(); ++i) {
    const auto run = words[i] >> shift;
    if (words[i - 1] >> shift != run) continue;
    const auto first = i - 1;
    auto last = keys[number_of(words[first])];
    bool is_sorted = true;  // numbers are, already
    for (; i < words.size() && words[i] >> shift == run; ++i) {
      const auto key = keys[number_of(words[i])];
      is_sorted = is_sorted && last >= key;
      last = key;
    }
    if (is_sorted) continue;
    std::sort(words.begin() + static_cast<std::ptrdiff_t>(first),
              words.begin() + static_cast<std::ptrdiff_t>(i), is_before);
  }
}

/// Sets bits from `bit` on where `word` has them; it has `count`.
void put_bits(std::vector<std::uint64_t>& bits, std::size_t bit, std::uint64_t word, std::size_t count) {
  const auto shift = bit % 64;
  bits[bit / 64] |= word << shift;
  if (shift + count > 64) bits[bit / 64 + 1] |= word >> (64 - shift);
}

}  // namespace

template <typename Real>
void RowRanker<Real>::set_thresholds(std::size_t size, const RankedMask& mask) {
  if (thresholds_.size() == size && density_ == mask.density && epsilon_ == mask.epsilon) return;
  density_ = mask.density;
  epsilon_ = mask.epsilon;
  thresholds_.resize(size);
  const auto last = static_cast<double>(size - 1);
  for (std::size_t i = 0; i < size; ++i) {
    const auto share = static_cast<double>(size - 1 - i) / last;
    thresholds_[i] = threshold_of(mask.density - mask.epsilon + 2 * mask.epsilon * share);
  }
}

template <typename Real>
void RowRanker<Real>::mark(std::span<const Key> keys, Key greatest, const RankedMask& mask,
                           std::uint64_t first, std::size_t bit, std::vector<std::uint64_t>& bits) {
  const auto size = keys.size();
  random_.resize(size);
  kernels_.randoms(mask.key, first, random_.data(), size);
  if (size == 1) {
    if (random_[0] < threshold_of(mask.density)) put_bits(bits, bit, 1, 1);
    return;
  }
  set_thresholds(size, mask);
  if (size < kLeastByDepth || !mark_by_depth(keys, greatest, bit, bits))
    mark_by_order(keys, greatest, bit, bits);
}

/// Most random numbers decide without the place: those of one depth have places, and so thresholds, between
/// two bounds. False, with nothing marked, where many numbers are left whose place would have to be found.
template <typename Real>
bool RowRanker<Real>::mark_by_depth(std::span<const Key> keys, Key greatest, std::size_t bit,
                                    std::vector<std::uint64_t>& bits) {
  const auto size = keys.size();
  const auto octave_bits = size <= kShortRow ? 5U : 8U;
  const auto depths = kOctaves << octave_bits;
  depths_.resize(size);
  kernels_.depths(keys.data(), greatest, octave_bits, static_cast<std::uint16_t>(depths - 1), depths_.data(),
                  size);
  bound_thresholds(depths);
  const auto open = decide_by_bounds();
  if (open > kMostOpen) return false;
  for (std::size_t i = 0; i < open; ++i) {
    const auto number = open_[i];
    const auto at = kernels_.keys_before(keys.data(), number, size);
    if (random_[number] < thresholds_[at]) kept_[number / 64] |= std::uint64_t{1} << number % 64;
  }
  for (std::size_t i = 0; i < kept_.size(); ++i)
    put_bits(bits, bit + i * 64, kept_[i], std::min<std::size_t>(64, size - i * 64));
  return true;
}

/// Of each of `depths`, from how many numbers have it and how many are less deep.
template <typename Real>
void RowRanker<Real>::bound_thresholds(std::size_t depths) {
  constexpr std::size_t kTables = 4;  // counts of one depth wait for one another
  const auto size = depths_.size();
  counts_.assign(kTables * depths, 0);
  for (std::size_t i = 0; i < size; ++i) ++counts_[i % kTables * depths + depths_[i]];
  surely_.resize(depths);
  perhaps_.resize(depths);
  std::size_t place = 0;
  for (std::size_t depth = 0; depth < depths; ++depth) {
    perhaps_[depth] = thresholds_[std::min(place, size - 1)];
    for (std::size_t table = 0; table < kTables; ++table) place += counts_[table * depths + depth];
    surely_[depth] = thresholds_[place > 0 ? place - 1 : 0];
  }
}

/// Which numbers are kept whatever their place is. Those that may be begin `open_`: how many there are.
template <typename Real>
std::size_t RowRanker<Real>::decide_by_bounds() {
  const auto size = depths_.size();
  open_.resize(size);
  kept_.resize((size + 63) / 64);
  std::size_t open = 0;
  for (std::size_t first = 0; first < size; first += 64) {
    const auto count = std::min<std::size_t>(64, size - first);
    const auto* depth = depths_.data() + first;
    const auto* random = random_.data() + first;
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const bool is_kept = random[i] < surely_[depth[i]];
      const bool may_be = random[i] < perhaps_[depth[i]];
      word |= static_cast<std::uint64_t>(is_kept) << i;
      open_[open] = static_cast<std::uint32_t>(first + i);
      open += static_cast<unsigned>(may_be) & static_cast<unsigned>(!is_kept);
    }
    kept_[first / 64] = word;
  }
  return open;
}

template <typename Real>
void RowRanker<Real>::mark_by_order(std::span<const Key> keys, Key greatest, std::size_t bit,
                                    std::vector<std::uint64_t>& bits) {
  const auto size = keys.size();
  order_.resize(size);
  for (std::size_t i = 0; i < size; ++i)
    order_[i] =
        static_cast<std::uint64_t>(depth_of(greatest, keys[i])) << 32U | static_cast<std::uint64_t>(i);
  const auto digit = digit_bits(size);
  if (digit == 8) {
    sort_by_upper<8>(order_, other_);
  } else {
    sort_by_upper<11>(order_, other_);
  }
  sort_runs(order_, keys, 64 - 2 * digit);
  for (std::size_t i = 0; i < size; ++i) {
    const auto number = number_of(order_[i]);
    const bool is_kept = random_[number] < thresholds_[i];
    bits[(bit + number) / 64] |= static_cast<std::uint64_t>(is_kept) << (bit + number) % 64;
  }
}

template class RowRanker<float>;
template class RowRanker<double>;

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
