// SPDX-License-Identifier: BSD-3-Clause
// What a kernel is told, and the arithmetic by which its threads find their elements. It compiles for
// processors and for GPUs, so tests run it without one. `plan_gather.h` makes launches.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ckpt/compute/module_abi.h"
#include "modules/cuda/element_bits.h"

namespace ckpt::cuda {

/// Divides numbers below 2^31 by a product and a shift.
struct Divider {
  std::uint32_t divisor = 1;
  std::uint32_t factor = 1;
  std::uint32_t shift = 0;

  Divider() = default;

  /// Precondition: 0 < divisor < 2^31.
  explicit Divider(std::uint32_t by) : divisor(by) {
    while ((1U << shift) < by) ++shift;
    const auto two_to_32 = std::uint64_t{1} << 32U;
    factor = static_cast<std::uint32_t>(two_to_32 * ((1U << shift) - by) / by + 1);
  }

  CKPT_HOST_DEVICE std::uint32_t quotient(std::uint32_t number) const {
    const auto high = static_cast<std::uint32_t>(std::uint64_t{number} * factor >> 32U);
    return (high + number) >> shift;
  }
};

/// Offsets in source and target.
struct Place {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};

/// The dimensions of a walk, the fastest first.
struct Walk {
  std::uint32_t count = 1;  ///< steps in all, below 2^31
  std::uint32_t rank = 0;
  Divider sizes[CKPT_MAX_RANK];
  std::uint64_t from[CKPT_MAX_RANK] = {};  ///< strides, in the units of the launch
  std::uint64_t to[CKPT_MAX_RANK] = {};

  CKPT_HOST_DEVICE Place place(std::uint32_t step) const {
    Place place;
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto rest = sizes[i].quotient(step);
      const std::uint64_t index = step - rest * sizes[i].divisor;
      place.from += index * from[i];
      place.to += index * to[i];
      step = rest;
    }
    return place;
  }
};

/// What every launch of a gather has.
struct Elements {
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  std::int32_t source_dtype = CKPT_OPAQUE_1;  ///< opaque where values only move
  std::int32_t target_dtype = CKPT_OPAQUE_1;
  std::uint32_t swap = 0;  ///< bytes of a number that are turned round; 0: none are
};

/// A step of the walk moves `group` elements that lie side by side in source and target, both aligned to 16
/// bytes (or to the group, if that is less). Strides count elements.
struct GroupLaunch {
  Elements elements;
  Walk walk;
  std::uint32_t group = 1;
};

/// Two dimensions turned: elements lie side by side along `across` in the source, along `down` in the target.
/// A block turns a square of `side`; a step of the walk is a matrix of squares, `squares_across` wide.
struct TurnLaunch {
  Elements elements;
  Walk walk;  ///< of the other dimensions; strides count elements
  std::uint64_t across = 0;
  std::uint64_t down = 0;
  std::uint64_t from_step = 0;  ///< stride of `down` in the source
  std::uint64_t to_step = 0;    ///< stride of `across` in the target
  std::uint32_t side = 32;
  Divider squares_across;
  Divider squares_down;
  std::uint32_t blocks = 0;
  std::uint32_t packed = 1;  ///< elements that a thread moves at once: their rows are aligned to as many

  struct Square {
    std::uint64_t across = 0;  ///< its first element
    std::uint64_t down = 0;
    Place matrix;
  };

  CKPT_HOST_DEVICE Square square(std::uint32_t block) const {
    const auto row = squares_across.quotient(block);
    const auto step = squares_down.quotient(row);
    Square square;
    square.across = std::uint64_t{block - row * squares_across.divisor} * side;
    square.down = std::uint64_t{row - step * squares_down.divisor} * side;
    square.matrix = walk.place(step);
    return square;
  }

  CKPT_HOST_DEVICE std::uint64_t from(const Square& square, std::uint32_t i, std::uint32_t j) const {
    return square.matrix.from + (square.down + i) * from_step + square.across + j;
  }

  CKPT_HOST_DEVICE std::uint64_t to(const Square& square, std::uint32_t i, std::uint32_t j) const {
    return square.matrix.to + (square.across + j) * to_step + square.down + i;
  }
};

/// Rows by a table, in units that divide the rows, their distances and their addresses.
struct RowsLaunch {
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  const std::int64_t* table = nullptr;
  std::uint64_t units = 0;  ///< in all
  std::uint64_t row_units = 0;
  std::uint64_t source_step = 0;  ///< units from row to row
  std::uint64_t target_step = 0;
  std::uint32_t unit = 1;  ///< bytes: 1, 2, 4, 8 or 16

  /// Units in source and target; false where the row is left alone.
  CKPT_HOST_DEVICE bool place(std::uint64_t step, Place& place) const {
    const auto row = step / row_units;
    const auto wanted = table[row];
    if (wanted < 0) return false;
    const auto inside = step - row * row_units;
    place.from = static_cast<std::uint64_t>(wanted) * source_step + inside;
    place.to = row * target_step + inside;
    return true;
  }
};

/// A number of `size` bytes with its bytes turned round; size 1, 2, 4 or 8.
CKPT_HOST_DEVICE std::uint64_t turned_round(std::uint64_t bits, std::uint32_t size) {
  std::uint64_t turned = 0;
  for (std::uint32_t i = 0; i < size; ++i) turned |= (bits >> (8U * i) & 0xffU) << (8U * (size - 1 - i));
  return turned;
}

/// An element of up to 8 bytes after turning and conversion. `swap` may be less than the element: halves of a
/// complex number.
CKPT_HOST_DEVICE std::uint64_t finished(std::int32_t from, std::int32_t to, std::uint32_t swap,
                                        std::uint64_t bits) {
  if (swap > 1) {
    const auto size = element_size(from);
    if (swap == size) {
      bits = turned_round(bits, size);
    } else {
      const auto half = (std::uint64_t{1} << (8U * swap)) - 1;
      bits = turned_round(bits & half, swap) | turned_round(bits >> (8U * swap), swap) << (8U * swap);
    }
  }
  return from == to ? bits : cast_bits(from, to, bits);
}

}  // namespace ckpt::cuda
