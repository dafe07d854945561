// SPDX-License-Identifier: BSD-3-Clause
// Passes over values on a GPU: the values go there, and what comes of them comes back.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ckpt/compute/device.h"
#include "ckpt/compute/tensor_backend.h"

namespace ckpt {

class CKPT_EXPORT DeviceBackend final : public TensorBackend {
 public:
  /// `kernels` makes passes in memory of the device.
  DeviceBackend(std::shared_ptr<const TensorBackend> kernels, std::shared_ptr<const Device> device);
  ~DeviceBackend() override;

  std::string name() const override { return kernels_->name() + " on " + device_->label(); }

  std::uint64_t preferred_count() const override { return std::uint64_t{1} << 20U; }

  bool supports(const CkptKernelCall& call) const override;

  /// Values lie in host memory. Each thread that calls has streams of its own.
  Status combine(const CkptKernelCall& call, const CkptValues& target) const override;
  Status reduce(const CkptKernelCall& call, std::span<double> results) const override;

 private:
  class Lane;

  Result<std::unique_ptr<Lane>> take_lane() const;

  std::shared_ptr<const TensorBackend> kernels_;
  std::shared_ptr<const Device> device_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Lane>> free_;
};

}  // namespace ckpt
