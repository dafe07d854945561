// SPDX-License-Identifier: BSD-3-Clause
// Elements that lie side by side in source and target: read and written 16 bytes at a time.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "modules/cuda/items.cuh"
#include "modules/cuda/kernels.h"

namespace ckpt::cuda {
namespace {

constexpr unsigned kVector = 16;

CKPT_HOST_DEVICE constexpr unsigned least(unsigned a, unsigned b) {
  return a < b ? a : b;
}

/// A conversion known when the kernel is compiled.
template <typename From, typename To>
struct Known {
  static __device__ __forceinline__ std::uint64_t apply(const Elements&, std::uint64_t bits) {
    return bits_from(cast_element<To>(element_from<From>(bits)));
  }
};

/// One that the launch names.
struct Named {
  static __device__ __forceinline__ std::uint64_t apply(const Elements& elements, std::uint64_t bits) {
    return finished_bits(elements.source_dtype, elements.target_dtype, elements.swap, bits);
  }
};

/// `kCount` items from or to registers, by the widest accesses that their number allows.
template <typename T, unsigned kCount>
struct alignas(least(kVector, sizeof(T) * kCount)) Run {
  T items[kCount];
};

template <unsigned kFrom, unsigned kTo, typename Conversion>
__global__ void __launch_bounds__(kThreads) cast_groups(const __grid_constant__ GroupLaunch launch) {
  constexpr unsigned kGroup = kVector / least(kFrom, kTo);
  using From = Run<Item<kFrom>, kGroup>;
  using To = Run<Item<kTo>, kGroup>;
  const unsigned step = blockIdx.x * kThreads + threadIdx.x;
  if (step >= launch.walk.count) return;
  const auto place = launch.walk.place(step);
  const From from = *reinterpret_cast<const From*>(launch.elements.source + place.from * kFrom);
  To to;
#pragma unroll
  for (unsigned i = 0; i < kGroup; ++i)
    to.items[i] = static_cast<Item<kTo>>(Conversion::apply(launch.elements, from.items[i]));
  *reinterpret_cast<To*>(launch.elements.target + place.to * kTo) = to;
}

template <unsigned kFrom, unsigned kTo, typename Conversion>
bool start(const GroupLaunch& launch, cudaStream_t stream) {
  cast_groups<kFrom, kTo, Conversion>
      <<<(launch.walk.count - 1) / kThreads + 1, kThreads, 0, stream>>>(launch);
  return true;
}

template <typename From, typename To>
bool start_known(const GroupLaunch& launch, cudaStream_t stream) {
  if constexpr (std::is_same_v<From, To>) {
    return false;
  } else {
    return start<sizeof(From), sizeof(To), Known<From, To>>(launch, stream);
  }
}

/// From the dtypes that weights have most to those that they are given most.
template <typename From>
bool start_from(const GroupLaunch& launch, cudaStream_t stream) {
  switch (launch.elements.target_dtype) {
    case CKPT_FLOAT32: return start_known<From, float>(launch, stream);
    case CKPT_FLOAT16: return start_known<From, Float16>(launch, stream);
    case CKPT_BFLOAT16: return start_known<From, Bfloat16>(launch, stream);
    case CKPT_FLOAT8_E4M3FN: return start_known<From, Float8E4m3fn>(launch, stream);
    case CKPT_FLOAT8_E5M2: return start_known<From, Float8E5m2>(launch, stream);
    default: return false;
  }
}

bool start_common(const GroupLaunch& launch, cudaStream_t stream) {
  if (launch.elements.swap != 0) return false;
  switch (launch.elements.source_dtype) {
    case CKPT_FLOAT64: return start_from<double>(launch, stream);
    case CKPT_FLOAT32: return start_from<float>(launch, stream);
    case CKPT_FLOAT16: return start_from<Float16>(launch, stream);
    case CKPT_BFLOAT16: return start_from<Bfloat16>(launch, stream);
    case CKPT_FLOAT8_E4M3FN: return start_from<Float8E4m3fn>(launch, stream);
    case CKPT_FLOAT8_E5M2: return start_from<Float8E5m2>(launch, stream);
    default: return false;
  }
}

}  // namespace

int launch_groups(const GroupLaunch& launch, void* stream) {
  auto* const queue = static_cast<cudaStream_t>(stream);
  const bool started = start_common(launch, queue) ||
                       with_size(element_size(launch.elements.source_dtype), [&]<unsigned kFrom>() {
                         return with_size(element_size(launch.elements.target_dtype), [&]<unsigned kTo>() {
                           return start<kFrom, kTo, Named>(launch, queue);
                         });
                       });
  return started ? cudaGetLastError() : cudaErrorInvalidValue;
}

}  // namespace ckpt::cuda
