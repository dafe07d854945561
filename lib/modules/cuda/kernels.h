// SPDX-License-Identifier: BSD-3-Clause
// Our kernels. Each is started on a stream (a cudaStream_t) and returns a cudaError_t: 0 for success.
#pragma once

#include "modules/cuda/launch.h"

namespace ckpt::cuda {

/// Elements side by side, several a thread: casts of dense tensors and rows.
int launch_groups(const GroupLaunch& launch, void* stream);

/// One element a thread, in any order.
int launch_elements(const GroupLaunch& launch, void* stream);

/// Two dimensions turned, by way of shared memory.
int launch_turn(const TurnLaunch& launch, void* stream);

int launch_rows(const RowsLaunch& launch, void* stream);

}  // namespace ckpt::cuda
