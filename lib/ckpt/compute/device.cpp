// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/device.h"

#include <utility>

#include <fmt/format.h>

#include "ckpt/compute/module_file.h"

namespace ckpt {
namespace {

constexpr auto kModule = "libckpt_cuda.so";

Error failed(const CkptFailure& failure) {
  return {ErrorCode::kBackend, std::string("GPU: ") + failure.text};
}

Status status_of(CkptCode code, const CkptFailure& failure) {
  if (code == CKPT_OK) return {};
  return failed(failure);
}

std::string version_of(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

Result<const CkptTransfer*> open_table() {
  CKPT_ASSIGN_OR_RETURN(void* const symbol, open_module(kModule, CKPT_TRANSFER_SYMBOL));
  const auto* const table = reinterpret_cast<CkptTransferModule>(symbol)(CKPT_MODULE_ABI_VERSION);
  if (table == nullptr || table->size < sizeof(CkptTransfer)) {
    return Error(ErrorCode::kBackend,
                 fmt::format("the module '{}' belongs to another version of ckpt", kModule));
  }
  return table;
}

/// How many GPUs there are, never 0.
Result<int> count_of(const CkptTransfer& transfer) {
  CkptFailure failure{};
  std::int32_t count = 0;
  if (transfer.device_count(&count, &failure) != CKPT_OK)
    return Error(ErrorCode::kBackend, fmt::format("no GPU can be used: {}", failure.text));
  return count;
}

Result<DeviceInfo> info_of(const CkptTransfer& transfer, int ordinal) {
  CkptDevice device{};
  CkptFailure failure{};
  CKPT_RETURN_IF_ERROR(status_of(transfer.describe_device(ordinal, &device, &failure), failure));
  return DeviceInfo{ordinal,
                    device.name,
                    device.memory_total,
                    device.memory_free,
                    fmt::format("{}.{}", device.capability_major, device.capability_minor),
                    version_of(device.driver_version),
                    version_of(device.runtime_version)};
}

}  // namespace

Result<std::unique_ptr<DeviceEngine>> DeviceEngine::open(const CkptTransfer& transfer,
                                                         const CkptEngineOptions& options) {
  std::unique_ptr<DeviceEngine> engine(new DeviceEngine(transfer));
  CkptEngine* opened = nullptr;
  CkptFailure failure{};
  CKPT_RETURN_IF_ERROR(status_of(transfer.open_engine(&options, &opened, &failure), failure));
  engine->engine_.reset(opened);
  return engine;
}

Result<PinnedBuffer> DeviceEngine::next_pinned(CkptDirection direction) {
  PinnedBuffer buffer;
  void* data = nullptr;
  CkptFailure failure{};
  CKPT_RETURN_IF_ERROR(status_of(
      transfer_.next_host_buffer(engine_.get(), direction, &buffer.handle, &data, &failure), failure));
  buffer.bytes = {static_cast<std::byte*>(data), pinned_bytes()};
  return buffer;
}

Status DeviceEngine::wait(const PinnedBuffer& buffer) {
  CkptFailure failure{};
  return status_of(transfer_.wait_host_buffer(engine_.get(), buffer.handle, &failure), failure);
}

Result<DeviceBuffer> DeviceEngine::allocate(std::uint64_t bytes) {
  CkptDeviceBuffer* buffer = nullptr;
  CkptFailure failure{};
  CKPT_RETURN_IF_ERROR(status_of(transfer_.allocate(engine_.get(), bytes, &buffer, &failure), failure));
  return DeviceBuffer(transfer_, engine_.get(), buffer);
}

Status DeviceEngine::upload(const PinnedBuffer& from, std::uint64_t bytes, CkptView to) {
  CkptFailure failure{};
  return status_of(transfer_.upload(engine_.get(), from.handle, 0, bytes, to, &failure), failure);
}

Status DeviceEngine::download(CkptView from, std::uint64_t bytes, const PinnedBuffer& to) {
  CkptFailure failure{};
  return status_of(transfer_.download(engine_.get(), from, bytes, to.handle, 0, &failure), failure);
}

Status DeviceEngine::gather(const CkptGather& gather) {
  CkptFailure failure{};
  return status_of(transfer_.gather(engine_.get(), &gather, &failure), failure);
}

Status DeviceEngine::gather_rows(const CkptRows& rows) {
  CkptFailure failure{};
  return status_of(transfer_.gather_rows(engine_.get(), &rows, &failure), failure);
}

Status DeviceEngine::compute(std::span<const CkptView> views,
                             const std::function<Status(void* stream)>& launch) {
  std::vector<CkptDeviceBuffer*> buffers;
  for (const auto& view : views) buffers.push_back(view.buffer);
  CkptFailure failure{};
  CKPT_RETURN_IF_ERROR(
      status_of(transfer_.begin_compute(engine_.get(), buffers.data(), buffers.size(), &failure), failure));
  auto launched = launch(transfer_.compute_stream(engine_.get()));
  auto ended =
      status_of(transfer_.end_compute(engine_.get(), buffers.data(), buffers.size(), &failure), failure);
  return launched.ok() ? std::move(ended) : std::move(launched);
}

void* DeviceEngine::address(CkptView view) const {
  return static_cast<std::byte*>(transfer_.device_address(view.buffer)) + view.offset;
}

Status DeviceEngine::synchronize() {
  CkptFailure failure{};
  return status_of(transfer_.synchronize(engine_.get(), &failure), failure);
}

Result<std::vector<DeviceInfo>> Device::list() {
  CKPT_ASSIGN_OR_RETURN(const auto* table, open_table());
  CKPT_ASSIGN_OR_RETURN(const int count, count_of(*table));
  std::vector<DeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CKPT_ASSIGN_OR_RETURN(auto info, info_of(*table, ordinal));
    devices.push_back(std::move(info));
  }
  return devices;
}

Result<std::shared_ptr<const Device>> Device::open(int ordinal) {
  CKPT_ASSIGN_OR_RETURN(const auto* table, open_table());
  CKPT_ASSIGN_OR_RETURN(const int count, count_of(*table));
  if (ordinal < 0 || ordinal >= count) {
    return Error(ErrorCode::kBackend, fmt::format("there is no GPU 'cuda:{}' here, the last one is 'cuda:{}'",
                                                  ordinal, count - 1));
  }
  return std::shared_ptr<const Device>(std::make_shared<Device>(*table, ordinal, CkptEngineOptions{}));
}

Device::Device(const CkptTransfer& transfer, int ordinal, const CkptEngineOptions& options)
    : transfer_(transfer), options_(options) {
  options_.size = sizeof(options_);
  options_.device = ordinal;
}

std::string Device::label() const {
  return fmt::format("cuda:{}", options_.device);
}

Result<DeviceInfo> Device::info() const {
  return info_of(transfer_, options_.device);
}

Result<DeviceEngine*> Device::engine() const {
  const std::lock_guard lock(mutex_);
  if (!engine_) {
    CKPT_ASSIGN_OR_RETURN(engine_, DeviceEngine::open(transfer_, options_));
  }
  return engine_.get();
}

Result<std::unique_ptr<DeviceEngine>> Device::open_engine(std::uint64_t pinned_bytes) const {
  auto options = options_;
  options.host_bytes = pinned_bytes;
  return DeviceEngine::open(transfer_, options);
}

bool Device::can_convert(Dtype from, Dtype to) const {
  if (from == to) return device_dtype(from, true) != 0;
  return transfer_.can_cast(device_dtype(from, false), device_dtype(to, false)) != 0;
}

std::int32_t device_dtype(Dtype dtype, bool only_moves) {
  if (only_moves) return CKPT_OPAQUE_1 - 1 + dtype_info(dtype).item_size;
  switch (dtype) {
    case Dtype::kBool: return CKPT_BOOL;
    case Dtype::kUint8: return CKPT_UINT8;
    case Dtype::kInt8: return CKPT_INT8;
    case Dtype::kUint16: return CKPT_UINT16;
    case Dtype::kInt16: return CKPT_INT16;
    case Dtype::kUint32: return CKPT_UINT32;
    case Dtype::kInt32: return CKPT_INT32;
    case Dtype::kUint64: return CKPT_UINT64;
    case Dtype::kInt64: return CKPT_INT64;
    case Dtype::kFloat16: return CKPT_FLOAT16;
    case Dtype::kBfloat16: return CKPT_BFLOAT16;
    case Dtype::kFloat32: return CKPT_FLOAT32;
    case Dtype::kFloat64: return CKPT_FLOAT64;
    case Dtype::kFloat8E5m2: return CKPT_FLOAT8_E5M2;
    case Dtype::kFloat8E4m3fn: return CKPT_FLOAT8_E4M3FN;
    case Dtype::kFloat8E5m2fnuz: return CKPT_FLOAT8_E5M2FNUZ;
    case Dtype::kFloat8E4m3fnuz: return CKPT_FLOAT8_E4M3FNUZ;
    case Dtype::kFloat8E8m0fnu: return CKPT_FLOAT8_E8M0FNU;
    default: return -1;
  }
}

}  // namespace ckpt
