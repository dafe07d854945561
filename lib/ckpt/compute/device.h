// SPDX-License-Identifier: BSD-3-Clause
// A GPU that computes with us, through the module libckpt_cuda.so (module_abi.h), which is opened when
// somebody asks for a GPU and not before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"
#include "ckpt/model/dtype.h"

namespace ckpt {

/// What the driver says about a GPU.
struct DeviceInfo {
  int ordinal = 0;
  std::string name;
  std::uint64_t memory_total = 0;  ///< bytes
  std::uint64_t memory_free = 0;
  std::string capability;  ///< "9.0"
  std::string driver;      ///< the version of CUDA that the driver is made for, "13.0"
  std::string runtime;     ///< that of the module
};

/// Gives memory back.
struct DeviceRelease {
  const CkptTransfer* transfer = nullptr;
  CkptEngine* engine = nullptr;

  void operator()(CkptDeviceBuffer* buffer) const { transfer->release(engine, buffer); }
};

/// Memory of a GPU.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;

  DeviceBuffer(const CkptTransfer& transfer, CkptEngine* engine, CkptDeviceBuffer* buffer)
      : buffer_(buffer, {&transfer, engine}) {}

  CkptView view(std::uint64_t offset = 0) const { return {buffer_.get(), offset}; }

 private:
  std::unique_ptr<CkptDeviceBuffer, DeviceRelease> buffer_;
};

/// Pinned memory of a ring: it is the engine's, and comes round again.
struct PinnedBuffer {
  CkptHostBuffer* handle = nullptr;
  std::span<std::byte> bytes;
};

/// Streams and memory of one GPU. Every call returns at once, but for those that say otherwise; what must
/// come after what is the engine's concern. For one thread at a time. Errors: kBackend.
class DeviceEngine {
 public:
  /// The table must outlive the engine.
  static Result<std::unique_ptr<DeviceEngine>> open(const CkptTransfer& transfer,
                                                    const CkptEngineOptions& options);

  std::uint64_t pinned_bytes() const { return transfer_.host_buffer_bytes(engine_.get()); }

  std::uint64_t budget_left() const { return transfer_.budget_left(engine_.get()); }

  /// Waits until the buffer is free.
  Result<PinnedBuffer> next_pinned(CkptDirection direction);
  /// Waits until the copies of the buffer are done.
  Status wait(const PinnedBuffer& buffer);
  Result<DeviceBuffer> allocate(std::uint64_t bytes);
  Status upload(const PinnedBuffer& from, std::uint64_t bytes, CkptView to);
  Status download(CkptView from, std::uint64_t bytes, const PinnedBuffer& to);
  Status gather(const CkptGather& gather);
  Status gather_rows(const CkptRows& rows);
  /// `launch(stream)` starts kernels of others, which use these buffers. Errors: its own, too.
  Status compute(std::span<const CkptView> views, const std::function<Status(void* stream)>& launch);
  /// Where a view lies, for such kernels.
  void* address(CkptView view) const;
  /// Waits for everything.
  Status synchronize();

 private:
  struct Close {
    const CkptTransfer* transfer = nullptr;

    void operator()(CkptEngine* engine) const { transfer->close_engine(engine); }
  };

  explicit DeviceEngine(const CkptTransfer& transfer) : transfer_(transfer), engine_(nullptr, {&transfer}) {}

  const CkptTransfer& transfer_;
  std::unique_ptr<CkptEngine, Close> engine_;
};

class CKPT_EXPORT Device {
 public:
  /// The GPUs of this machine. Errors: kBackend, which says what is missing: the module, the driver or a GPU.
  static Result<std::vector<DeviceInfo>> list();
  /// Errors: those of `list`; no such GPU.
  static Result<std::shared_ptr<const Device>> open(int ordinal);

  /// For tests: a device of a table of one's own.
  Device(const CkptTransfer& transfer, int ordinal, const CkptEngineOptions& options);

  int ordinal() const { return options_.device; }

  /// "cuda:0".
  std::string label() const;
  /// What the driver says. Errors: kBackend.
  Result<DeviceInfo> info() const;
  /// Opened the first time, for good. Errors: kBackend.
  Result<DeviceEngine*> engine() const;
  /// One of the caller's own, whose pinned buffers have so many bytes. Errors: kBackend.
  Result<std::unique_ptr<DeviceEngine>> open_engine(std::uint64_t pinned_bytes) const;

  /// Does the GPU convert so?
  bool can_convert(Dtype from, Dtype to) const;

  /// Notes bytes of results, whose values the GPU made or only put in order.
  void note_work(std::uint64_t bytes, bool computed) const { (computed ? computed_ : copied_) += bytes; }

  std::uint64_t computed() const { return computed_; }

  std::uint64_t copied() const { return copied_; }

 private:
  const CkptTransfer& transfer_;
  CkptEngineOptions options_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<DeviceEngine> engine_;
  mutable std::uint64_t computed_ = 0;
  mutable std::uint64_t copied_ = 0;
};

/// The module's number for a dtype: where it only moves, one that stands for its size.
std::int32_t device_dtype(Dtype dtype, bool only_moves);

}  // namespace ckpt
