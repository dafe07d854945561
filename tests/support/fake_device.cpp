// SPDX-License-Identifier: BSD-3-Clause
#include "support/fake_device.h"

extern "C" const CkptTransfer* ckpt_transfer_module(std::uint32_t version);

namespace {

ckpt::test::FakeCudaDriver* current = nullptr;

}  // namespace

namespace ckpt::cuda {

Driver& cuda_driver() {
  return *current;
}

}  // namespace ckpt::cuda

namespace ckpt::test {

FakeDevice::FakeDevice(unsigned seed, std::uint64_t pinned_bytes) : driver(seed) {
  current = &driver;
  CkptEngineOptions options{};
  options.host_bytes = pinned_bytes;
  device_ = std::make_shared<const Device>(*ckpt_transfer_module(CKPT_MODULE_ABI_VERSION), 0, options);
}

FakeDevice::~FakeDevice() {
  device_.reset();
  current = nullptr;
}

}  // namespace ckpt::test
