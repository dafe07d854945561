// SPDX-License-Identifier: BSD-3-Clause
// For headers that a compiler of device code reads too.
#pragma once

/// In front of a function that processors and GPUs run alike, and that becomes part of whoever calls it.
#ifdef __CUDACC__
#define CKPT_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define CKPT_HOST_DEVICE inline __attribute__((always_inline))
#endif
