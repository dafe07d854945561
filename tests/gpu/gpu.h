// SPDX-License-Identifier: BSD-3-Clause
// The module for NVIDIA GPUs as tests see it: its table, an engine, and gathers from memory to memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "ckpt/base/bytes.h"
#include "ckpt/compute/module_abi.h"
#include "ckpt/compute/module_file.h"

namespace ckpt::test {

/// Null and a reason where there is no module or no GPU.
inline const CkptTransfer* find_gpu(std::string& why) {
  auto symbol = open_module("libckpt_cuda.so", CKPT_TRANSFER_SYMBOL);
  if (!symbol.ok()) {
    why = symbol.error().message();
    return nullptr;
  }
  const auto* const table = reinterpret_cast<CkptTransferModule>(symbol.value())(CKPT_MODULE_ABI_VERSION);
  CkptFailure failure{};
  std::int32_t count = 0;
  if (table != nullptr && table->device_count(&count, &failure) == CKPT_OK) return table;
  why = table == nullptr ? "the module has another version" : failure.text;
  return nullptr;
}

/// Throws where the module fails.
class Gpu {
 public:
  explicit Gpu(const CkptTransfer& table, std::uint64_t host_bytes = 0) : table_(table) {
    CkptEngineOptions options{};
    options.size = sizeof(options);
    options.host_bytes = host_bytes;
    check(table_.open_engine(&options, &engine_, &failure_));
  }

  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  ~Gpu() { table_.close_engine(engine_); }

  const CkptTransfer& table() const { return table_; }

  CkptEngine* engine() { return engine_; }

  void check(CkptCode code) const {
    if (code != CKPT_OK) throw std::runtime_error(failure_.text);
  }

  CkptDeviceBuffer* allocate(std::uint64_t bytes) {
    CkptDeviceBuffer* buffer = nullptr;
    check(table_.allocate(engine_, bytes, &buffer, &failure_));
    return buffer;
  }

  void release(CkptDeviceBuffer* buffer) { table_.release(engine_, buffer); }

  void upload(ByteView bytes, CkptView to) {
    const auto piece = table_.host_buffer_bytes(engine_);
    for (std::uint64_t done = 0; done < bytes.size(); done += piece) {
      const auto size = std::min<std::uint64_t>(piece, bytes.size() - done);
      CkptHostBuffer* buffer = nullptr;
      void* data = nullptr;
      check(table_.next_host_buffer(engine_, CKPT_TO_DEVICE, &buffer, &data, &failure_));
      std::memcpy(data, bytes.data() + done, size);
      check(table_.upload(engine_, buffer, 0, size, {to.buffer, to.offset + done}, &failure_));
    }
  }

  Bytes download(CkptView from, std::uint64_t size) {
    Bytes bytes;
    bytes.reserve(size);
    const auto piece = table_.host_buffer_bytes(engine_);
    for (std::uint64_t done = 0; done < size; done += piece) {
      const auto part = std::min<std::uint64_t>(piece, size - done);
      CkptHostBuffer* buffer = nullptr;
      void* data = nullptr;
      check(table_.next_host_buffer(engine_, CKPT_TO_HOST, &buffer, &data, &failure_));
      check(table_.download(engine_, {from.buffer, from.offset + done}, part, buffer, 0, &failure_));
      check(table_.wait_host_buffer(engine_, buffer, &failure_));
      append_bytes(bytes, {static_cast<const std::byte*>(data), part});
    }
    return bytes;
  }

  void gather(const CkptGather& gather) { check(table_.gather(engine_, &gather, &failure_)); }

  void gather_rows(const CkptRows& rows) { check(table_.gather_rows(engine_, &rows, &failure_)); }

  void synchronize() { check(table_.synchronize(engine_, &failure_)); }

  /// `target` after the gather. Source and target lie `source_offset` and `target_offset` bytes into their
  /// buffers.
  Bytes gathered(CkptGather gather, ByteView source, ByteView target, std::uint64_t source_offset,
                 std::uint64_t target_offset) {
    gather.source = {allocate(source.size() + source_offset), source_offset};
    gather.target = {allocate(target.size() + target_offset), target_offset};
    upload(source, gather.source);
    upload(target, gather.target);
    this->gather(gather);
    auto result = download(gather.target, target.size());
    release(gather.source.buffer);
    release(gather.target.buffer);
    return result;
  }

 private:
  const CkptTransfer& table_;
  CkptEngine* engine_ = nullptr;
  CkptFailure failure_{};
};

}  // namespace ckpt::test
