// SPDX-License-Identifier: BSD-3-Clause
// A device as the library sees one: the table of libckpt_cuda.so, over a fake driver.
#pragma once

#include <cstdint>
#include <memory>

#include "ckpt/compute/device.h"
#include "support/fake_cuda_driver.h"

namespace ckpt::test {

/// One at a time: the module knows one driver.
class FakeDevice {
 public:
  /// 0 bytes: what the module does unasked.
  explicit FakeDevice(unsigned seed = 1, std::uint64_t pinned_bytes = 0);
  FakeDevice(const FakeDevice&) = delete;
  FakeDevice& operator=(const FakeDevice&) = delete;
  ~FakeDevice();

  FakeCudaDriver driver;

  /// The driver must outlive all that is done with it.
  const std::shared_ptr<const Device>& device() const { return device_; }

  /// Gives it back; what is then alive was lost.
  void close() { device_.reset(); }

 private:
  std::shared_ptr<const Device> device_;
};

}  // namespace ckpt::test
