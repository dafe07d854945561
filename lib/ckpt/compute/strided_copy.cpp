// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/strided_copy.h"

#include <array>
#include <cstring>

namespace ckpt {
namespace {

constexpr std::size_t kLine = 64;  // bytes that a processor moves between its caches at once

/// Item by item.
template <std::size_t kItem>
void scatter(const std::byte* from, std::byte* to, const CopyAxis& inner, const CopyAxis& outer) {
  for (std::uint64_t i = 0; i < outer.count; ++i) {
    const auto* source = from + i * outer.from * kItem;
    auto* target = to + i * outer.to * kItem;
    for (std::uint64_t j = 0; j < inner.count; ++j) {
      std::memcpy(target, source, kItem);
      source += inner.from * kItem;
      target += inner.to * kItem;
    }
  }
}

/// Turns a square of cache lines: item l of line k becomes item k of line l.
template <std::size_t kItem>
void turn_square(const std::byte* square, std::byte* to, std::uint64_t step) {
  constexpr std::uint64_t kSide = kLine / kItem;
  for (std::uint64_t k = 0; k < kSide; ++k) {
    std::array<std::byte, kLine> line;
    for (std::uint64_t l = 0; l < kSide; ++l)
      std::memcpy(&line[l * kItem], &square[l * kLine + k * kItem], kItem);
    std::memcpy(to + k * step, line.data(), kLine);
  }
}

/// The same for the commonest size, in blocks of four by four.
template <>
void turn_square<4>(const std::byte* square, std::byte* to, std::uint64_t step) {
  using Four = std::uint32_t __attribute__((vector_size(16)));
  constexpr std::uint64_t kBlock = sizeof(Four);
  const auto load = [&](std::uint64_t row, std::uint64_t column) {
    Four four;
    std::memcpy(&four, square + row * kLine + column * kBlock, kBlock);
    return four;
  };
  for (std::uint64_t column = 0; column < kLine / kBlock; ++column) {
    for (std::uint64_t block = 0; block < kLine / kBlock; ++block) {
      const auto a = load(4 * block, column);
      const auto b = load(4 * block + 1, column);
      const auto c = load(4 * block + 2, column);
      const auto d = load(4 * block + 3, column);
      const auto low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const auto low_cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
      const auto high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const auto high_cd = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const std::array<Four, 4> turned = {__builtin_shufflevector(low_ab, low_cd, 0, 1, 4, 5),
                                          __builtin_shufflevector(low_ab, low_cd, 2, 3, 6, 7),
                                          __builtin_shufflevector(high_ab, high_cd, 0, 1, 4, 5),
                                          __builtin_shufflevector(high_ab, high_cd, 2, 3, 6, 7)};
      for (std::uint64_t i = 0; i < 4; ++i)
        std::memcpy(to + (4 * column + i) * step + block * kBlock, &turned[i], kBlock);
    }
  }
}

/// The same where items lie next to each other along `inner` in the source and along `outer` in the box: a
/// square of cache lines at a time, each of which is read once and written once.
template <std::size_t kItem>
void transpose(const std::byte* from, std::byte* to, const CopyAxis& inner, const CopyAxis& outer) {
  constexpr std::uint64_t kSide = kLine / kItem;
  const auto columns = inner.count / kSide * kSide;
  const auto rows = outer.count / kSide * kSide;
  std::array<std::byte, kSide * kLine> square;
  for (std::uint64_t i = 0; i < rows; i += kSide) {
    for (std::uint64_t j = 0; j < columns; j += kSide) {
      const auto* source = from + (i * outer.from + j) * kItem;
      for (std::uint64_t k = 0; k < kSide; ++k)
        std::memcpy(&square[k * kLine], source + k * outer.from * kItem, kLine);
      turn_square<kItem>(square.data(), to + (i + j * inner.to) * kItem, inner.to * kItem);
    }
  }
  const CopyAxis rest_of_row{inner.count - columns, inner.from, inner.to};
  scatter<kItem>(from + columns * kItem, to + columns * inner.to * kItem, rest_of_row,
                 {rows, outer.from, outer.to});
  scatter<kItem>(from + rows * outer.from * kItem, to + rows * kItem, inner,
                 {outer.count - rows, outer.from, outer.to});
}

template <std::size_t kItem>
void place_two(const std::byte* from, std::byte* to, const CopyAxis& inner, const CopyAxis& outer) {
  if (inner.from == 1 && outer.to == 1) return transpose<kItem>(from, to, inner, outer);
  if (outer.from == 1 && inner.to == 1) return transpose<kItem>(from, to, outer, inner);
  scatter<kItem>(from, to, inner, outer);
}

}  // namespace

void copy_strided(std::size_t item, const std::byte* from, std::byte* to, const CopyAxis& inner,
                  const CopyAxis& outer) {
  if (inner.from == 1 && inner.to == 1) {
    for (std::uint64_t i = 0; i < outer.count; ++i)
      std::memcpy(to + i * outer.to * item, from + i * outer.from * item, inner.count * item);
    return;
  }
  switch (item) {
    case 1: return place_two<1>(from, to, inner, outer);
    case 2: return place_two<2>(from, to, inner, outer);
    case 4: return place_two<4>(from, to, inner, outer);
    case 8: return place_two<8>(from, to, inner, outer);
    default: return place_two<16>(from, to, inner, outer);
  }
}

}  // namespace ckpt
