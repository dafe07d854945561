// SPDX-License-Identifier: BSD-3-Clause
// MT19937 of Matsumoto and Nishimura, as PyTorch's generator for the CPU has it: 32-bit outputs, in order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace ckpt {

class MersenneTwister {
 public:
  /// The state that the reference code's init_genrand makes.
  explicit MersenneTwister(std::uint32_t seed);

  std::uint32_t next() {
    std::uint32_t number = 0;
    fill({&number, 1});
    return number;
  }

  /// The next outputs. Much cheaper per number than `next`.
  void fill(std::span<std::uint32_t> numbers);

 private:
  static constexpr std::size_t kSize = 624;
  static constexpr std::size_t kShift = 397;

  /// A whole new state.
  void twist();

  std::array<std::uint32_t, kSize> state_;
  std::size_t used_ = kSize;  ///< of the state's numbers
};

}  // namespace ckpt
