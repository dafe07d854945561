// SPDX-License-Identifier: BSD-3-Clause
// Bytes on their way to a GPU and back: threads read them into pinned buffers, and take them over when they
// have come down. Reading, the three streams of the GPU and writing overlap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/device.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

/// Memory of the GPU that is used again and again.
struct DeviceRoom {
  DeviceBuffer buffer;
  std::uint64_t size = 0;
};

/// Every call returns before the GPU has done what it asks for. Errors: kBackend, and those of who gives and
/// takes bytes.
class DeviceConveyor {
 public:
  /// Takes bytes that came down; they begin `offset` bytes into what was asked for. By any thread.
  using Arrive = std::function<Status(std::uint64_t offset, std::span<std::byte> bytes)>;

  /// `report()` is called by the calling thread now and then. All must outlive the conveyor.
  DeviceConveyor(DeviceEngine& engine, std::size_t threads, const std::function<void()>& report)
      : engine_(engine), threads_(threads), report_(report) {}

  /// Makes the room as large, or larger; then nothing is in it. False: the GPU has not so much memory.
  Result<bool> make_room(DeviceRoom& room, std::uint64_t size);

  Status upload(const ByteSource& from, std::uint64_t offset, std::uint64_t bytes, const DeviceRoom& to);
  Status upload(ByteView bytes, const DeviceRoom& to);

  /// `arrive` takes the bytes in later calls, all of them by the end of `finish`.
  Status download(const DeviceRoom& from, std::uint64_t bytes, const Arrive& arrive);

  /// Waits for what is still coming down.
  Status finish();

 private:
  struct Coming {
    PinnedBuffer buffer;
    std::uint64_t size = 0;
    std::uint64_t offset = 0;
    Arrive arrive;
  };

  template <typename Fill>
  Status send(std::uint64_t bytes, const DeviceRoom& to, const Fill& fill);
  template <typename Work>
  Status in_slices(std::uint64_t bytes, const Work& work) const;
  Status collect();

  DeviceEngine& engine_;
  std::size_t threads_;
  const std::function<void()>& report_;
  std::deque<Coming> under_way_;
};

}  // namespace ckpt
