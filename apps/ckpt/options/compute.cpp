// SPDX-License-Identifier: BSD-3-Clause
#include "options/compute.h"

#include <CLI/CLI.hpp>

namespace ckpt::cli {
namespace {

constexpr std::size_t kMostThreads = 1024;

}  // namespace

void ComputeFlags::attach(CLI::App& app) {
  app.add_option("--threads", threads, "Threads that compute values; one a processor if not given")
      ->check(CLI::Range(std::size_t{1}, kMostThreads))
      ->option_text("N");
}

}  // namespace ckpt::cli
