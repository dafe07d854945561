// SPDX-License-Identifier: BSD-3-Clause
// Every storage says that it lay on the CPU, so that the file loads where there is no other device. Tensors
// that a call moves to a device when they are loaded stay on the CPU, too.
#include <string>

#include "ckpt/edit/conversions.h"
#include "ckpt/model/device_arguments.h"

namespace ckpt {
namespace {

constexpr std::string_view kCpu = "cpu";

}  // namespace

Status tag_devices_cpu(EditContext& context) {
  auto& checkpoint = context.checkpoint;
  for (StorageId id = 0; id < checkpoint.storages.size(); ++id) {
    const auto& device = checkpoint.devices[checkpoint.storages[id].device];
    if (device == kCpu || device == "meta") continue;
    checkpoint.set_device(id, kCpu);
    ++context.report.conversion->devices_changed;
  }
  if (!checkpoint.has_document()) return {};
  for (const auto use : device_arguments(checkpoint.graph(), kCpu)) {
    checkpoint.replace_value(use, std::string(kCpu));
    ++context.report.conversion->devices_changed;
  }
  return {};
}

}  // namespace ckpt
