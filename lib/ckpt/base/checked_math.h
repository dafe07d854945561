// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic on sizes read from files: overflow is a missing value, never a small number.
#pragma once

#include <cstdint>
#include <optional>

namespace ckpt {

inline std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

inline std::optional<std::uint64_t> checked_multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// `value` rounded up to a multiple of `alignment`. Precondition: alignment > 0, no overflow.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  const auto rest = value % alignment;
  return rest == 0 ? value : value + (alignment - rest);
}

}  // namespace ckpt
