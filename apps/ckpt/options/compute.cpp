// SPDX-License-Identifier: BSD-3-Clause
#include "options/compute.h"

#include <CLI/CLI.hpp>

#include "ckpt/compute/torch_module.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kMostThreads = 1024;

}  // namespace

void ComputeFlags::attach(CLI::App& app) {
  app.add_option("--threads", threads, "Threads that compute values; one a processor if not given")
      ->check(CLI::Range(std::size_t{1}, kMostThreads))
      ->option_text("N");
}

void ComputeFlags::attach_with_backend(CLI::App& app) {
  attach(app);
  app.add_option("--backend", backend,
                 "Who calculates: native, torch (LibTorch), or auto, which is native where there is no GPU")
      ->check(one_of({"auto", "native", "torch"}))
      ->option_text("WHICH");
  app.add_option("--libtorch", libtorch, "Where --backend torch finds LibTorch: its folder of libraries")
      ->option_text("DIR");
}

Result<ComputeOptions> ComputeFlags::options() const {
  ComputeOptions options{threads, nullptr, nullptr};
  if (backend == "torch") {
    CKPT_ASSIGN_OR_RETURN(
        options.backend, TorchModule::open(LibTorchSearch::from_environment(libtorch), TorchUse::kProcessor));
  }
  return options;
}

}  // namespace ckpt::cli
