// SPDX-License-Identifier: BSD-3-Clause
// Elements that change their places: by any strides, matrices turned by way of shared memory, rows by a
// table.
#include <cuda_runtime_api.h>

#include <cstdint>

#include "modules/cuda/items.cuh"
#include "modules/cuda/kernels.h"

namespace ckpt::cuda {
namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kWarps = kThreads / kWarp;

template <unsigned kFrom, unsigned kTo, bool kMoves>
__device__ __forceinline__ Item<kTo> item_for(const Elements& elements, Item<kFrom> from) {
  if constexpr (kMoves) {
    return from;
  } else {
    return finished_item<kTo>(elements, from);
  }
}

template <unsigned kFrom, unsigned kTo, bool kMoves>
__global__ void __launch_bounds__(kThreads) gather_elements(const __grid_constant__ GroupLaunch launch) {
  const unsigned step = blockIdx.x * kThreads + threadIdx.x;
  if (step >= launch.walk.count) return;
  const auto place = launch.walk.place(step);
  const auto from = reinterpret_cast<const Item<kFrom>*>(launch.elements.source)[place.from];
  reinterpret_cast<Item<kTo>*>(launch.elements.target)[place.to] =
      item_for<kFrom, kTo, kMoves>(launch.elements, from);
}

/// `kPacked` elements that one access moves.
template <typename T, unsigned kPacked>
struct alignas(sizeof(T) * kPacked) Pack {
  T items[kPacked];
};

/// A warp reads rows of the square and writes columns of it. Packs that hang over the edge go one by one.
template <unsigned kFrom, unsigned kTo, bool kMoves, unsigned kPacked>
__global__ void __launch_bounds__(kThreads) turn_squares(const __grid_constant__ TurnLaunch launch) {
  constexpr unsigned kSide = kWarp * kPacked;
  using FromPack = Pack<Item<kFrom>, kPacked>;
  using ToPack = Pack<Item<kTo>, kPacked>;
  // The odd item of each row spreads a column over the banks.
  __shared__ Item<kTo> items[kSide][kSide + 1];

  const auto square = launch.square(blockIdx.x);
  const auto across = static_cast<unsigned>(min(launch.across - square.across, std::uint64_t{kSide}));
  const auto down = static_cast<unsigned>(min(launch.down - square.down, std::uint64_t{kSide}));
  const auto* const source = reinterpret_cast<const Item<kFrom>*>(launch.elements.source);
  auto* const target = reinterpret_cast<Item<kTo>*>(launch.elements.target);
  const unsigned lane = threadIdx.x % kWarp * kPacked;

  for (unsigned i = threadIdx.x / kWarp; i < down; i += kWarps) {
    if (lane >= across) break;
    const auto* const from = source + launch.from(square, i, lane);
    if (lane + kPacked <= across) {
      const auto pack = *reinterpret_cast<const FromPack*>(from);
#pragma unroll
      for (unsigned k = 0; k < kPacked; ++k)
        items[i][lane + k] = item_for<kFrom, kTo, kMoves>(launch.elements, pack.items[k]);
    } else {
      for (unsigned k = 0; lane + k < across; ++k)
        items[i][lane + k] = item_for<kFrom, kTo, kMoves>(launch.elements, from[k]);
    }
  }
  __syncthreads();
  for (unsigned j = threadIdx.x / kWarp; j < across; j += kWarps) {
    if (lane >= down) break;
    auto* const to = target + launch.to(square, lane, j);
    if (lane + kPacked <= down) {
      ToPack pack;
#pragma unroll
      for (unsigned k = 0; k < kPacked; ++k) pack.items[k] = items[lane + k][j];
      *reinterpret_cast<ToPack*>(to) = pack;
    } else {
      for (unsigned k = 0; lane + k < down; ++k) to[k] = items[lane + k][j];
    }
  }
}

template <unsigned kUnit>
__global__ void __launch_bounds__(kThreads) gather_units(const __grid_constant__ RowsLaunch launch) {
  const auto step = std::uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  Place place;
  if (step >= launch.units || !launch.place(step, place)) return;
  reinterpret_cast<Item<kUnit>*>(launch.target)[place.to] =
      reinterpret_cast<const Item<kUnit>*>(launch.source)[place.from];
}

template <unsigned kFrom, unsigned kTo, bool kMoves>
bool start(const GroupLaunch& launch, cudaStream_t stream) {
  gather_elements<kFrom, kTo, kMoves>
      <<<(launch.walk.count - 1) / kThreads + 1, kThreads, 0, stream>>>(launch);
  return true;
}

template <unsigned kFrom, unsigned kTo, bool kMoves, unsigned kPacked>
bool start_turn(const TurnLaunch& launch, cudaStream_t stream) {
  turn_squares<kFrom, kTo, kMoves, kPacked><<<launch.blocks, kThreads, 0, stream>>>(launch);
  return true;
}

template <unsigned kUnit>
bool start_rows(const RowsLaunch& launch, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((launch.units - 1) / kThreads + 1);
  gather_units<kUnit><<<blocks, kThreads, 0, stream>>>(launch);
  return true;
}

bool only_moves(const Elements& elements) {
  return elements.source_dtype == elements.target_dtype && elements.swap == 0;
}

/// Calls `use` for the sizes of source and target, which are both 16 or neither.
template <typename Use>
bool with_sizes(const Elements& elements, Use use) {
  const auto from = element_size(elements.source_dtype);
  const auto to = element_size(elements.target_dtype);
  if (from == 16) return to == 16 && use.template operator()<16, 16>();
  return with_size(from, [&]<unsigned kFrom>() {
    return with_size(to, [&]<unsigned kTo>() { return use.template operator()<kFrom, kTo>(); });
  });
}

int result_of(bool started) {
  return started ? cudaGetLastError() : cudaErrorInvalidValue;
}

}  // namespace

int launch_elements(const GroupLaunch& launch, void* stream) {
  auto* const queue = static_cast<cudaStream_t>(stream);
  const bool moves = only_moves(launch.elements);
  return result_of(with_sizes(launch.elements, [&]<unsigned kFrom, unsigned kTo>() {
    if constexpr (kFrom == kTo) {
      if (moves) return start<kFrom, kTo, true>(launch, queue);
    }
    return start<kFrom, kTo, false>(launch, queue);
  }));
}

int launch_turn(const TurnLaunch& launch, void* stream) {
  auto* const queue = static_cast<cudaStream_t>(stream);
  const bool moves = only_moves(launch.elements);
  return result_of(with_sizes(launch.elements, [&]<unsigned kFrom, unsigned kTo>() {
    if constexpr (kFrom == kTo) {
      if constexpr (kFrom < 4) {
        if (moves && launch.packed == 4 / kFrom)
          return start_turn<kFrom, kTo, true, 4 / kFrom>(launch, queue);
      }
      if (moves) return start_turn<kFrom, kTo, true, 1>(launch, queue);
    }
    return start_turn<kFrom, kTo, false, 1>(launch, queue);
  }));
}

int launch_rows(const RowsLaunch& launch, void* stream) {
  if (launch.units == 0) return cudaSuccess;
  auto* const queue = static_cast<cudaStream_t>(stream);
  if (launch.unit == 16) return result_of(start_rows<16>(launch, queue));
  return result_of(
      with_size(launch.unit, [&]<unsigned kUnit>() { return start_rows<kUnit>(launch, queue); }));
}

}  // namespace ckpt::cuda
