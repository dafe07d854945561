// SPDX-License-Identifier: BSD-3-Clause
// The driver that drives: the only file that calls the CUDA runtime, but for the kernels.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <variant>

#include "modules/cuda/driver.h"
#include "modules/cuda/kernels.h"

namespace ckpt::cuda {
namespace {

/// "CUDA 13.0" of 13000.
std::string version_text(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Error error_of(cudaError_t code, const char* what) {
  cudaGetLastError();  // or the next launch would find it
  const auto text = std::string(what) + ": " + cudaGetErrorString(code);
  switch (code) {
    case cudaErrorMemoryAllocation: return {ErrorCode::kRefused, text};
    case cudaErrorInsufficientDriver: {
      int driver = 0;
      cudaDriverGetVersion(&driver);
      const auto found = driver == 0 ? std::string("there is no NVIDIA driver")
                                     : "the NVIDIA driver is made for " + version_text(driver);
      return {ErrorCode::kNotFound,
              found + ", and this needs one for " + version_text(CUDART_VERSION) + " or later"};
    }
    case cudaErrorNoDevice: return {ErrorCode::kNotFound, "the NVIDIA driver finds no GPU"};
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorNoKernelImageForDevice: return {ErrorCode::kNotFound, text};
    default: return {ErrorCode::kBackend, text};
  }
}

Status status_of(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return {};
  return error_of(code, what);
}

cudaStream_t stream_of(Driver::Stream stream) {
  return static_cast<cudaStream_t>(stream);
}

cudaEvent_t event_of(Driver::Event event) {
  return static_cast<cudaEvent_t>(event);
}

class CudaDriver final : public Driver {
 public:
  Result<int> device_count() override {
    int count = 0;
    CKPT_RETURN_IF_ERROR(status_of(cudaGetDeviceCount(&count), "counting GPUs"));
    if (count == 0) return error_of(cudaErrorNoDevice, "counting GPUs");
    return count;
  }

  Result<CkptDevice> describe(int ordinal) override {
    cudaDeviceProp properties{};
    CKPT_RETURN_IF_ERROR(status_of(cudaGetDeviceProperties(&properties, ordinal), "describing a GPU"));
    CKPT_RETURN_IF_ERROR(select(ordinal));
    CkptDevice device{};
    std::snprintf(device.name, sizeof(device.name), "%s", properties.name);
    std::size_t free = 0;
    std::size_t total = 0;
    CKPT_RETURN_IF_ERROR(status_of(cudaMemGetInfo(&free, &total), "asking a GPU for its memory"));
    device.memory_total = total;
    device.memory_free = free;
    device.capability_major = properties.major;
    device.capability_minor = properties.minor;
    cudaDriverGetVersion(&device.driver_version);
    cudaRuntimeGetVersion(&device.runtime_version);
    return device;
  }

  Status select(int ordinal) override { return status_of(cudaSetDevice(ordinal), "selecting a GPU"); }

  Result<void*> allocate_host(std::uint64_t bytes) override {
    void* memory = nullptr;
    CKPT_RETURN_IF_ERROR(status_of(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), "pinning memory"));
    return memory;
  }

  void free_host(void* memory) override { cudaFreeHost(memory); }

  Result<void*> allocate_device(std::uint64_t bytes) override {
    void* memory = nullptr;
    CKPT_RETURN_IF_ERROR(status_of(cudaMalloc(&memory, bytes), "allocating memory of a GPU"));
    return memory;
  }

  void free_device(void* memory) override { cudaFree(memory); }

  Result<Stream> create_stream() override {
    cudaStream_t stream = nullptr;
    CKPT_RETURN_IF_ERROR(
        status_of(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream"));
    return Stream{stream};
  }

  void destroy_stream(Stream stream) override { cudaStreamDestroy(stream_of(stream)); }

  Result<Event> create_event() override {
    cudaEvent_t event = nullptr;
    CKPT_RETURN_IF_ERROR(
        status_of(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event"));
    return Event{event};
  }

  void destroy_event(Event event) override { cudaEventDestroy(event_of(event)); }

  Status record(Event event, Stream stream) override {
    return status_of(cudaEventRecord(event_of(event), stream_of(stream)), "recording an event");
  }

  Status wait(Stream stream, Event event) override {
    return status_of(cudaStreamWaitEvent(stream_of(stream), event_of(event), 0), "waiting for an event");
  }

  Status synchronize(Event event) override {
    return status_of(cudaEventSynchronize(event_of(event)), "waiting for a GPU");
  }

  Status upload(void* to, const void* from, std::uint64_t bytes, Stream stream) override {
    return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_of(stream)),
                     "copying to a GPU");
  }

  Status download(void* to, const void* from, std::uint64_t bytes, Stream stream) override {
    return status_of(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_of(stream)),
                     "copying from a GPU");
  }

  Status launch(const Launch& launch, Stream stream) override {
    const auto start = [&](const auto& one) { return started(one, stream); };
    return status_of(std::visit(start, launch), "starting a kernel");
  }

  Status launch(const RowsLaunch& launch, Stream stream) override {
    return status_of(static_cast<cudaError_t>(launch_rows(launch, stream)), "starting a kernel");
  }

 private:
  static cudaError_t started(const CopyLaunch& copy, Stream stream) {
    return cudaMemcpyAsync(copy.target, copy.source, copy.bytes, cudaMemcpyDeviceToDevice, stream_of(stream));
  }

  static cudaError_t started(const GroupLaunch& launch, Stream stream) {
    return static_cast<cudaError_t>(launch.group > 1 ? launch_groups(launch, stream)
                                                     : launch_elements(launch, stream));
  }

  static cudaError_t started(const TurnLaunch& launch, Stream stream) {
    return static_cast<cudaError_t>(launch_turn(launch, stream));
  }
};

}  // namespace

Driver& cuda_driver() {
  static CudaDriver driver;
  return driver;
}

}  // namespace ckpt::cuda
