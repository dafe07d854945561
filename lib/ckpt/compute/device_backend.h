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

/// Are many values added up there, too? Such sums are not those of a processor to the last bit, and a file
/// must not depend on who made it unless the user wants it so.
enum class DeviceSums : std::uint8_t { kNo, kYes };

class CKPT_EXPORT DeviceBackend final : public TensorBackend {
 public:
  /// `kernels` makes passes in memory of the device.
  DeviceBackend(std::shared_ptr<const TensorBackend> kernels, std::shared_ptr<const Device> device,
                DeviceSums sums);
  ~DeviceBackend() override;

  std::string name() const override { return kernels_->name() + " on " + device_->label(); }

  std::uint64_t preferred_count() const override { return std::uint64_t{1} << 20U; }

  bool supports(const CkptKernelCall& call) const override;

  bool makes_sums() const override { return sums_ == DeviceSums::kYes; }

  /// Values lie in host memory, and go to the GPU in pieces. Each thread that calls has streams of its own.
  /// Sums of pieces are added in their order.
  Status combine(const CkptKernelCall& call, const CkptValues& target) const override;
  Status reduce(const CkptKernelCall& call, std::span<double> results) const override;

 private:
  class Lane;

  Result<std::unique_ptr<Lane>> take_lane() const;
  void give_back(std::unique_ptr<Lane> lane, std::uint64_t computed) const;

  std::shared_ptr<const TensorBackend> kernels_;
  std::shared_ptr<const Device> device_;
  DeviceSums sums_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Lane>> free_;
};

}  // namespace ckpt
