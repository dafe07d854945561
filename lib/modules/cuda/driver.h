// SPDX-License-Identifier: BSD-3-Clause
// What the engine asks of CUDA, and no more: so that its schedule is tested without a GPU, by a driver that
// does the work late. Errors are kNotFound where there is no driver or device, kRefused where memory runs out
// and kBackend for all else.
#pragma once

#include <cstdint>

#include "ckpt/base/result.h"
#include "ckpt/compute/module_abi.h"
#include "modules/cuda/plan_gather.h"

namespace ckpt::cuda {

class Driver {
 public:
  using Stream = void*;  ///< a cudaStream_t
  using Event = void*;   ///< a cudaEvent_t

  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  virtual ~Driver() = default;

  /// Never 0: none is an error that says why.
  virtual Result<int> device_count() = 0;
  virtual Result<CkptDevice> describe(int ordinal) = 0;
  /// The device of what this thread asks for from now on.
  virtual Status select(int ordinal) = 0;

  /// Pinned memory. What is freed may be null and is used no more.
  virtual Result<void*> allocate_host(std::uint64_t bytes) = 0;
  virtual void free_host(void* memory) = 0;
  virtual Result<void*> allocate_device(std::uint64_t bytes) = 0;
  /// Waits for all streams.
  virtual void free_device(void* memory) = 0;

  virtual Result<Stream> create_stream() = 0;
  virtual void destroy_stream(Stream stream) = 0;
  virtual Result<Event> create_event() = 0;
  virtual void destroy_event(Event event) = 0;

  /// The event happens when all that the stream was given has been done.
  virtual Status record(Event event, Stream stream) = 0;
  /// What the stream is given from now on waits for what was recorded last.
  virtual Status wait(Stream stream, Event event) = 0;
  /// Waits here.
  virtual Status synchronize(Event event) = 0;

  virtual Status upload(void* to, const void* from, std::uint64_t bytes, Stream stream) = 0;
  virtual Status download(void* to, const void* from, std::uint64_t bytes, Stream stream) = 0;
  virtual Status launch(const Launch& launch, Stream stream) = 0;
  virtual Status launch(const RowsLaunch& launch, Stream stream) = 0;
};

/// The CUDA runtime's.
Driver& cuda_driver();

}  // namespace ckpt::cuda
