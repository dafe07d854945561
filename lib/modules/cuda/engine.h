// SPDX-License-Identifier: BSD-3-Clause
// One GPU at work: three streams (in, compute, out), a ring of pinned buffers in each direction, and device
// memory from a budget. Nothing waits here but who asks for a host buffer: what must come after what is said
// to the GPU by events. Each device buffer has an event a stream, the last use there; a stream that is about
// to use the buffer waits for those of the other two.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"
#include "modules/cuda/driver.h"

struct CkptHostBuffer {
  void* data = nullptr;
  ckpt::cuda::Driver::Event copied = nullptr;  ///< the last copy into or out of it
  bool is_used = false;
  CkptDirection direction = CKPT_TO_DEVICE;
};

struct CkptDeviceBuffer {
  std::byte* data = nullptr;
  std::uint64_t bytes = 0;  ///< as the budget counts them
  std::array<ckpt::cuda::Driver::Event, 3> used = {};
  std::array<bool, 3> is_used = {};
};

namespace ckpt::cuda {

class Engine {
 public:
  /// The driver must outlive the engine.
  static Result<std::unique_ptr<Engine>> open(Driver& driver, const CkptEngineOptions& options);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// Waits for everything.
  ~Engine();

  /// Free for use: waits for the copy that used it last.
  Result<CkptHostBuffer*> next_host_buffer(CkptDirection direction);
  Status wait(CkptHostBuffer& buffer);

  std::uint64_t host_bytes() const { return host_bytes_; }

  std::uint64_t budget() const { return budget_; }

  std::uint64_t budget_left() const { return budget_ - allocated_; }

  Result<CkptDeviceBuffer*> allocate(std::uint64_t bytes);
  void release(CkptDeviceBuffer* buffer);

  Status upload(CkptHostBuffer& from, std::uint64_t offset, std::uint64_t bytes, CkptView to);
  Status download(CkptView from, std::uint64_t bytes, CkptHostBuffer& to, std::uint64_t offset);
  Status gather(const CkptGather& gather);
  Status gather_rows(const CkptRows& rows);

  Driver::Stream compute_stream() const { return streams_[kCompute]; }

  /// What the compute stream is given between the two may use the buffers.
  Status begin_compute(std::span<CkptDeviceBuffer* const> buffers) { return order_before(kCompute, buffers); }

  Status end_compute(std::span<CkptDeviceBuffer* const> buffers) { return order_after(kCompute, buffers); }

  Status synchronize();

 private:
  enum StreamIndex : std::size_t { kIn, kCompute, kOut, kStreams };

  Engine(Driver& driver, int device) : driver_(driver), device_(device) {}

  Status start(const CkptEngineOptions& options);
  void destroy(CkptDeviceBuffer& buffer);
  Status order_before(StreamIndex stream, std::span<CkptDeviceBuffer* const> buffers);
  Status order_after(StreamIndex stream, std::span<CkptDeviceBuffer* const> buffers);
  Status check(CkptView view, std::uint64_t bytes) const;
  Status check(const CkptHostBuffer& buffer, CkptDirection direction, std::uint64_t offset,
               std::uint64_t bytes) const;

  Driver& driver_;
  int device_;
  std::uint64_t host_bytes_ = 0;
  std::uint64_t budget_ = 0;
  std::uint64_t allocated_ = 0;
  std::array<Driver::Stream, kStreams> streams_ = {};
  Driver::Event end_ = nullptr;  ///< for `synchronize`
  std::array<std::vector<CkptHostBuffer>, 2> rings_;
  std::array<std::size_t, 2> next_ = {};
  std::vector<std::unique_ptr<CkptDeviceBuffer>> buffers_;
};

}  // namespace ckpt::cuda
