// SPDX-License-Identifier: BSD-3-Clause
#include "modules/cuda/engine.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ckpt::cuda {
namespace {

constexpr std::uint64_t kHostBytes = std::uint64_t{32} << 20U;
constexpr std::uint32_t kHostBuffers = 3;
constexpr std::uint32_t kBudgetInMille = 800;
constexpr std::uint64_t kAlignment = 256;  // of device memory

Error bug(const char* what) {
  return {ErrorCode::kInternal, std::string("a caller of the GPU module ") + what};
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(Driver& driver, const CkptEngineOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const int count, driver.device_count());
  if (options.device < 0 || options.device >= count) {
    return Error(ErrorCode::kNotFound, "there is no GPU " + std::to_string(options.device) + ", only " +
                                           std::to_string(count) + (count == 1 ? " GPU" : " GPUs"));
  }
  std::unique_ptr<Engine> engine(new Engine(driver, options.device));
  CKPT_RETURN_IF_ERROR(engine->start(options));
  return engine;
}

Status Engine::start(const CkptEngineOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const auto device, driver_.describe(device_));
  CKPT_RETURN_IF_ERROR(driver_.select(device_));
  host_bytes_ = options.host_bytes != 0 ? options.host_bytes : kHostBytes;
  const auto share = options.budget_in_mille != 0 ? options.budget_in_mille : kBudgetInMille;
  budget_ = device.memory_free / 1000 * std::min<std::uint64_t>(share, 1000);
  for (auto& stream : streams_) {
    CKPT_ASSIGN_OR_RETURN(stream, driver_.create_stream());
  }
  CKPT_ASSIGN_OR_RETURN(end_, driver_.create_event());
  for (const auto direction : {CKPT_TO_DEVICE, CKPT_TO_HOST}) {
    auto& ring = rings_[direction];
    ring.resize(options.host_buffers != 0 ? options.host_buffers : kHostBuffers);
    for (auto& buffer : ring) {
      buffer.direction = direction;
      CKPT_ASSIGN_OR_RETURN(buffer.copied, driver_.create_event());
      CKPT_ASSIGN_OR_RETURN(buffer.data, driver_.allocate_host(host_bytes_));
    }
  }
  return {};
}

Engine::~Engine() {
  if (!driver_.select(device_).ok()) return;  // nothing of it can be reached any more
  if (end_ != nullptr) static_cast<void>(synchronize());
  for (const auto& buffer : buffers_) destroy(*buffer);
  for (auto& ring : rings_) {
    for (auto& buffer : ring) {
      if (buffer.data != nullptr) driver_.free_host(buffer.data);
      if (buffer.copied != nullptr) driver_.destroy_event(buffer.copied);
    }
  }
  if (end_ != nullptr) driver_.destroy_event(end_);
  for (auto* stream : streams_) {
    if (stream != nullptr) driver_.destroy_stream(stream);
  }
}

Result<CkptHostBuffer*> Engine::next_host_buffer(CkptDirection direction) {
  auto& ring = rings_[direction];
  auto& buffer = ring[next_[direction]];
  next_[direction] = (next_[direction] + 1) % ring.size();
  CKPT_RETURN_IF_ERROR(wait(buffer));
  return &buffer;
}

Status Engine::wait(CkptHostBuffer& buffer) {
  if (!buffer.is_used) return {};
  CKPT_RETURN_IF_ERROR(driver_.select(device_));
  CKPT_RETURN_IF_ERROR(driver_.synchronize(buffer.copied));
  buffer.is_used = false;
  return {};
}

Result<CkptDeviceBuffer*> Engine::allocate(std::uint64_t bytes) {
  const auto rounded = std::max<std::uint64_t>(bytes, 1) + kAlignment - 1;
  const auto size = rounded / kAlignment * kAlignment;
  if (rounded < bytes || size > budget_left()) {
    return Error(ErrorCode::kRefused, std::to_string(bytes) + " bytes are more than the " +
                                          std::to_string(budget_left()) +
                                          " that are left of the GPU's budget");
  }
  CKPT_RETURN_IF_ERROR(driver_.select(device_));
  auto buffer = std::make_unique<CkptDeviceBuffer>();
  const auto fill = [&]() -> Status {
    CKPT_ASSIGN_OR_RETURN(auto* memory, driver_.allocate_device(size));
    buffer->data = static_cast<std::byte*>(memory);
    for (auto& event : buffer->used) {
      CKPT_ASSIGN_OR_RETURN(event, driver_.create_event());
    }
    return {};
  };
  if (auto filled = fill(); !filled.ok()) {
    destroy(*buffer);
    return std::move(filled).error();
  }
  buffer->bytes = size;
  allocated_ += size;
  buffers_.push_back(std::move(buffer));
  return buffers_.back().get();
}

void Engine::release(CkptDeviceBuffer* buffer) {
  const auto found = std::find_if(buffers_.begin(), buffers_.end(),
                                  [&](const auto& owned) { return owned.get() == buffer; });
  if (found == buffers_.end() || !driver_.select(device_).ok()) return;
  allocated_ -= buffer->bytes;
  destroy(*buffer);
  buffers_.erase(found);
}

void Engine::destroy(CkptDeviceBuffer& buffer) {
  if (buffer.data != nullptr) driver_.free_device(buffer.data);
  for (auto* event : buffer.used) {
    if (event != nullptr) driver_.destroy_event(event);
  }
}

Status Engine::order_before(StreamIndex stream, std::span<CkptDeviceBuffer* const> buffers) {
  CKPT_RETURN_IF_ERROR(driver_.select(device_));
  for (const auto* buffer : buffers) {
    for (std::size_t other = 0; other < kStreams; ++other) {
      if (other != stream && buffer->is_used[other])
        CKPT_RETURN_IF_ERROR(driver_.wait(streams_[stream], buffer->used[other]));
    }
  }
  return {};
}

Status Engine::order_after(StreamIndex stream, std::span<CkptDeviceBuffer* const> buffers) {
  for (auto* buffer : buffers) {
    CKPT_RETURN_IF_ERROR(driver_.record(buffer->used[stream], streams_[stream]));
    buffer->is_used[stream] = true;
  }
  return {};
}

Status Engine::check(CkptView view, std::uint64_t bytes) const {
  if (view.buffer == nullptr || bytes > view.buffer->bytes || view.offset > view.buffer->bytes - bytes)
    return bug("names bytes outside of a buffer");
  return {};
}

Status Engine::check(const CkptHostBuffer& buffer, CkptDirection direction, std::uint64_t offset,
                     std::uint64_t bytes) const {
  if (bytes > host_bytes_ || offset > host_bytes_ - bytes)
    return bug("names bytes outside of a pinned buffer");
  if (buffer.direction != direction) return bug("uses a pinned buffer in the wrong direction");
  return {};
}

Status Engine::upload(CkptHostBuffer& from, std::uint64_t offset, std::uint64_t bytes, CkptView to) {
  CKPT_RETURN_IF_ERROR(check(from, CKPT_TO_DEVICE, offset, bytes));
  CKPT_RETURN_IF_ERROR(check(to, bytes));
  CKPT_RETURN_IF_ERROR(order_before(kIn, {&to.buffer, 1}));
  CKPT_RETURN_IF_ERROR(driver_.upload(to.buffer->data + to.offset,
                                      static_cast<std::byte*>(from.data) + offset, bytes, streams_[kIn]));
  CKPT_RETURN_IF_ERROR(driver_.record(from.copied, streams_[kIn]));
  from.is_used = true;
  return order_after(kIn, {&to.buffer, 1});
}

Status Engine::download(CkptView from, std::uint64_t bytes, CkptHostBuffer& to, std::uint64_t offset) {
  CKPT_RETURN_IF_ERROR(check(to, CKPT_TO_HOST, offset, bytes));
  CKPT_RETURN_IF_ERROR(check(from, bytes));
  CKPT_RETURN_IF_ERROR(order_before(kOut, {&from.buffer, 1}));
  CKPT_RETURN_IF_ERROR(driver_.download(static_cast<std::byte*>(to.data) + offset,
                                        from.buffer->data + from.offset, bytes, streams_[kOut]));
  CKPT_RETURN_IF_ERROR(driver_.record(to.copied, streams_[kOut]));
  to.is_used = true;
  return order_after(kOut, {&from.buffer, 1});
}

Status Engine::gather(const CkptGather& gather) {
  CKPT_ASSIGN_OR_RETURN(const auto reach, reach_of(gather));
  CKPT_RETURN_IF_ERROR(check(gather.source, reach.from));
  CKPT_RETURN_IF_ERROR(check(gather.target, reach.to));
  CKPT_ASSIGN_OR_RETURN(const auto launches,
                        plan_gather(gather, gather.source.buffer->data + gather.source.offset,
                                    gather.target.buffer->data + gather.target.offset));
  const std::array buffers = {gather.source.buffer, gather.target.buffer};
  CKPT_RETURN_IF_ERROR(order_before(kCompute, buffers));
  for (const auto& launch : launches) CKPT_RETURN_IF_ERROR(driver_.launch(launch, streams_[kCompute]));
  return order_after(kCompute, buffers);
}

Status Engine::gather_rows(const CkptRows& rows) {
  CKPT_RETURN_IF_ERROR(check(rows.source, 0));
  CKPT_RETURN_IF_ERROR(check(rows.table, rows.rows > UINT64_MAX / 8 ? UINT64_MAX : rows.rows * 8));
  std::uint64_t end = 0;
  if (rows.rows != 0 && (__builtin_mul_overflow(rows.rows - 1, rows.target_step, &end) ||
                         __builtin_add_overflow(end, rows.row_bytes, &end)))
    return bug("names rows outside of a buffer");
  CKPT_RETURN_IF_ERROR(check(rows.target, end));
  CKPT_ASSIGN_OR_RETURN(
      const auto launch,
      plan_rows(rows, rows.source.buffer->data + rows.source.offset,
                rows.target.buffer->data + rows.target.offset,
                reinterpret_cast<const std::int64_t*>(rows.table.buffer->data + rows.table.offset)));
  const std::array buffers = {rows.source.buffer, rows.target.buffer, rows.table.buffer};
  CKPT_RETURN_IF_ERROR(order_before(kCompute, buffers));
  CKPT_RETURN_IF_ERROR(driver_.launch(launch, streams_[kCompute]));
  return order_after(kCompute, buffers);
}

Status Engine::synchronize() {
  CKPT_RETURN_IF_ERROR(driver_.select(device_));
  for (auto* stream : streams_) {
    if (stream == nullptr) continue;
    CKPT_RETURN_IF_ERROR(driver_.record(end_, stream));
    CKPT_RETURN_IF_ERROR(driver_.synchronize(end_));
  }
  return {};
}

}  // namespace ckpt::cuda
