// SPDX-License-Identifier: BSD-3-Clause
// What the kernels of lib/modules/cuda do, thread by thread, on a processor: by the same arithmetic of
// places.
#pragma once

#include <cstring>
#include <variant>

#include "modules/cuda/plan_gather.h"

namespace ckpt::test {

inline void move_element(const cuda::Elements& elements, std::uint64_t from, std::uint64_t to) {
  const auto from_size = cuda::element_size(elements.source_dtype);
  const auto to_size = cuda::element_size(elements.target_dtype);
  const auto* const source = elements.source + from * from_size;
  auto* const target = elements.target + to * to_size;
  if (from_size == 16) {
    for (std::uint32_t half = 0; half < 16; half += 8) {
      std::uint64_t bits = 0;
      std::memcpy(&bits, source + half, 8);
      if (elements.swap != 0) bits = cuda::turned_round(bits, 8);
      std::memcpy(target + half, &bits, 8);
    }
    return;
  }
  std::uint64_t bits = 0;
  std::memcpy(&bits, source, from_size);
  bits = cuda::finished(elements.source_dtype, elements.target_dtype, elements.swap, bits);
  std::memcpy(target, &bits, to_size);
}

inline void run_launch(const cuda::CopyLaunch& launch) {
  std::memcpy(launch.target, launch.source, launch.bytes);
}

inline void run_launch(const cuda::GroupLaunch& launch) {
  for (std::uint32_t step = 0; step < launch.walk.count; ++step) {
    const auto place = launch.walk.place(step);
    for (std::uint32_t i = 0; i < launch.group; ++i)
      move_element(launch.elements, place.from + i, place.to + i);
  }
}

inline void run_launch(const cuda::TurnLaunch& launch) {
  for (std::uint32_t block = 0; block < launch.blocks; ++block) {
    const auto square = launch.square(block);
    for (std::uint32_t i = 0; i < launch.side && square.down + i < launch.down; ++i) {
      for (std::uint32_t j = 0; j < launch.side && square.across + j < launch.across; ++j)
        move_element(launch.elements, launch.from(square, i, j), launch.to(square, i, j));
    }
  }
}

inline void run_launch(const cuda::RowsLaunch& launch) {
  for (std::uint64_t step = 0; step < launch.units; ++step) {
    cuda::Place place;
    if (launch.place(step, place))
      std::memcpy(launch.target + place.to * launch.unit, launch.source + place.from * launch.unit,
                  launch.unit);
  }
}

inline void run_launch(const cuda::Launch& launch) {
  std::visit([](const auto& one) { run_launch(one); }, launch);
}

}  // namespace ckpt::test
