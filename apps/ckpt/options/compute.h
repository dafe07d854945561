// SPDX-License-Identifier: BSD-3-Clause
// Who computes, where bytes are computed.
#pragma once

#include <cstddef>

#include "ckpt/compute/computed_source.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

struct ComputeFlags {
  std::size_t threads = 0;  ///< 0: one a processor

  void attach(CLI::App& app);

  ComputeOptions options() const { return {threads, nullptr}; }
};

}  // namespace ckpt::cli
