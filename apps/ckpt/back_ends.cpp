// SPDX-License-Identifier: BSD-3-Clause
#include "back_ends.h"

#include "ckpt/base/text.h"
#include "ckpt/compute/device.h"
#include "ckpt/compute/torch_module.h"

namespace ckpt::cli {
namespace {

void print_torch(Stream& out) {
  const auto module = TorchModule::open(LibTorchSearch::from_environment(""), TorchUse::kProcessor);
  if (!module.ok()) {
    out.format("torch: none: {}\n", module.error().text());
    return;
  }
  const auto& libtorch = module.value()->libtorch();
  out.format("torch: LibTorch {} in {} ({})\n", module.value()->version(), printable(libtorch.folder),
             libtorch.source);
}

void print_devices(Stream& out) {
  const auto devices = Device::list();
  if (!devices.ok()) {
    out.format("cuda: none: {}\n", devices.error().text());
    return;
  }
  for (const auto& device : *devices) {
    out.format("cuda:{}: {}, compute capability {}, {} of memory, driver for CUDA {}\n", device.ordinal,
               printable(device.name), device.capability, human_bytes(device.memory_total), device.driver);
  }
}

}  // namespace

void print_back_ends(Stream& out) {
  out.print("native: built in\n");
  print_torch(out);
  print_devices(out);
}

}  // namespace ckpt::cli
