// SPDX-License-Identifier: BSD-3-Clause
// Who computes, where bytes are computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ckpt/base/result.h"
#include "ckpt/compute/computed_source.h"

namespace CLI {
class App;
}

namespace ckpt::cli {

struct ComputeFlags {
  std::size_t threads = 0;  ///< 0: one a processor
  std::string device = "auto";
  std::string backend = "auto";
  std::string libtorch;

  /// For commands that look at values.
  void attach(CLI::App& app);
  /// For those that make new ones of them.
  void attach_with_backend(CLI::App& app);

  /// Opens what was asked for by its name. Errors: kBackend.
  Result<ComputeOptions> options() const;
  /// Opens a GPU if nobody said where to compute, `computed` bytes of output are worth the trip and one is
  /// there.
  void add_device(ComputeOptions& options, std::uint64_t computed) const;
};

}  // namespace ckpt::cli
