// SPDX-License-Identifier: BSD-3-Clause
#include "options/compute.h"

#include <charconv>
#include <optional>
#include <string_view>

#include <CLI/CLI.hpp>

#include "ckpt/compute/device.h"
#include "ckpt/compute/device_backend.h"
#include "ckpt/compute/torch_module.h"
#include "options/input.h"

namespace ckpt::cli {
namespace {

constexpr std::size_t kMostThreads = 1024;
constexpr std::string_view kCuda = "cuda";

// Starting CUDA takes a second, in which processors compute many gigabytes (docs/performance.md).
constexpr std::uint64_t kWorthDevice = std::uint64_t{32} << 30U;

/// The number of "cuda" or "cuda:N"; nothing for other words.
std::optional<int> cuda_ordinal(std::string_view word) {
  if (!word.starts_with(kCuda)) return std::nullopt;
  word.remove_prefix(kCuda.size());
  if (word.empty()) return 0;
  int ordinal = 0;
  const auto* const end = word.data() + word.size();
  const auto parsed = std::from_chars(word.data() + 1, end, ordinal);
  if (word.front() != ':' || word.size() < 2 || word.size() > 4 || parsed.ec != std::errc() ||
      parsed.ptr != end || ordinal < 0)
    return std::nullopt;
  return ordinal;
}

std::string check_device(const std::string& word) {
  if (word == "auto" || word == "cpu" || cuda_ordinal(word)) return {};
  return "expected auto, cpu, cuda or cuda:N, found '" + word + "'";
}

}  // namespace

void ComputeFlags::attach(CLI::App& app) {
  app.add_option("--threads", threads, "Threads that compute values; one a processor if not given")
      ->check(CLI::Range(std::size_t{1}, kMostThreads))
      ->option_text("N");
}

void ComputeFlags::attach_with_backend(CLI::App& app) {
  attach(app);
  app.add_option(
         "--device", device,
         "Where values are computed: cpu, cuda (or cuda:N), or auto, which is a GPU where there is one and "
         "32 GiB or more to compute")
      ->check(CLI::Validator(check_device, ""))
      ->option_text("DEVICE");
  app.add_option("--backend", backend,
                 "Who calculates: torch (LibTorch) or native; auto, the default, is native")
      ->check(one_of({"auto", "native", "torch"}))
      ->option_text("WHICH");
  app.add_option("--libtorch", libtorch, "Where --backend torch finds LibTorch: its folder of libraries")
      ->option_text("DIR");
}

Result<ComputeOptions> ComputeFlags::options() const {
  ComputeOptions options{threads, nullptr, nullptr};
  if (const auto ordinal = cuda_ordinal(device)) {
    CKPT_ASSIGN_OR_RETURN(options.device, Device::open(*ordinal));
  }
  if (backend == "torch") {
    const auto use = options.device ? TorchUse::kGpu : TorchUse::kProcessor;
    CKPT_ASSIGN_OR_RETURN(const auto torch,
                          TorchModule::open(LibTorchSearch::from_environment(libtorch), use));
    options.backend = torch;
    if (options.device)  // by its name, so its sums are wanted, too
      options.backend = std::make_shared<const DeviceBackend>(torch, options.device, DeviceSums::kYes);
  }
  return options;
}

void ComputeFlags::add_device(ComputeOptions& options, std::uint64_t computed) const {
  if (device != "auto" || computed < kWorthDevice) return;
  if (auto opened = Device::open(0); opened.ok()) options.device = *opened;
}

}  // namespace ckpt::cli
