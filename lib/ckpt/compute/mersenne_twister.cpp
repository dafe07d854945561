// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/mersenne_twister.h"

#include <algorithm>

namespace ckpt {
namespace {

std::uint32_t twisted(std::uint32_t upper, std::uint32_t lower, std::uint32_t distant) {
  const auto mixed = (upper & 0x80000000U) | (lower & 0x7fffffffU);
  return distant ^ (mixed >> 1U) ^ ((0U - (lower & 1U)) & 0x9908b0dfU);
}

std::uint32_t tempered(std::uint32_t number) {
  number ^= number >> 11U;
  number ^= (number << 7U) & 0x9d2c5680U;
  number ^= (number << 15U) & 0xefc60000U;
  return number ^ (number >> 18U);
}

}  // namespace

MersenneTwister::MersenneTwister(std::uint32_t seed) {
  state_[0] = seed;
  for (std::uint32_t i = 1; i < kSize; ++i)
    state_[i] = 1812433253U * (state_[i - 1] ^ (state_[i - 1] >> 30U)) + i;
}

void MersenneTwister::twist() {
  constexpr auto kRest = kSize - kShift;
  for (std::size_t i = 0; i < kRest; ++i) state_[i] = twisted(state_[i], state_[i + 1], state_[i + kShift]);
  for (std::size_t i = kRest; i + 1 < kSize; ++i)
    state_[i] = twisted(state_[i], state_[i + 1], state_[i - kRest]);
  state_[kSize - 1] = twisted(state_[kSize - 1], state_[0], state_[kShift - 1]);
  used_ = 0;
}

void MersenneTwister::fill(std::span<std::uint32_t> numbers) {
  while (!numbers.empty()) {
    if (used_ == kSize) twist();
    const auto count = std::min(numbers.size(), kSize - used_);
    for (std::size_t i = 0; i < count; ++i) numbers[i] = tempered(state_[used_ + i]);
    used_ += count;
    numbers = numbers.subspan(count);
  }
}

}  // namespace ckpt
