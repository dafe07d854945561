// SPDX-License-Identifier: BSD-3-Clause
// The module's one symbol: the engine behind C functions.
#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "ckpt/base/export.h"
#include "ckpt/compute/element_casts.h"
#include "ckpt/compute/module_abi.h"
#include "modules/cuda/engine.h"

struct CkptEngine {
  std::unique_ptr<ckpt::cuda::Engine> engine;
};

namespace ckpt::cuda {
namespace {

CkptCode code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound: return CKPT_UNAVAILABLE;
    case ErrorCode::kRefused: return CKPT_NO_MEMORY;
    case ErrorCode::kUnsupported: return CKPT_UNSUPPORTED;
    default: return CKPT_FAILED;
  }
}

CkptCode fail(CkptFailure& failure, CkptCode code, std::string_view text) {
  const auto size = std::min(text.size(), sizeof(failure.text) - 1);
  std::memcpy(failure.text, text.data(), size);
  failure.text[size] = '\0';
  return code;
}

/// No exception leaves the module. `work` returns a Status.
template <typename Work>
CkptCode guarded(CkptFailure* failure, Work work) {
  try {
    const Status status = work();
    if (status.ok()) return CKPT_OK;
    auto copy = status;
    return fail(*failure, code_of(copy.error().code()), copy.error().message());
  } catch (const std::bad_alloc&) {
    return fail(*failure, CKPT_NO_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(*failure, CKPT_FAILED, error.what());
  }
}

CkptCode device_count(std::int32_t* count, CkptFailure* failure) {
  return guarded(failure, [&]() -> Status {
    CKPT_ASSIGN_OR_RETURN(*count, cuda_driver().device_count());
    return {};
  });
}

CkptCode describe_device(std::int32_t ordinal, CkptDevice* device, CkptFailure* failure) {
  return guarded(failure, [&]() -> Status {
    CKPT_ASSIGN_OR_RETURN(*device, cuda_driver().describe(ordinal));
    return {};
  });
}

CkptCode open_engine(const CkptEngineOptions* options, CkptEngine** engine, CkptFailure* failure) {
  return guarded(failure, [&]() -> Status {
    CkptEngineOptions known{};
    std::memcpy(&known, options, std::min<std::size_t>(options->size, sizeof(known)));
    CKPT_ASSIGN_OR_RETURN(auto opened, Engine::open(cuda_driver(), known));
    *engine = new CkptEngine{std::move(opened)};
    return {};
  });
}

void close_engine(CkptEngine* engine) {
  delete engine;
}

CkptCode next_host_buffer(CkptEngine* engine, CkptDirection direction, CkptHostBuffer** buffer, void** data,
                          CkptFailure* failure) {
  return guarded(failure, [&]() -> Status {
    CKPT_ASSIGN_OR_RETURN(*buffer, engine->engine->next_host_buffer(direction));
    *data = (*buffer)->data;
    return {};
  });
}

CkptCode wait_host_buffer(CkptEngine* engine, CkptHostBuffer* buffer, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->wait(*buffer); });
}

std::uint64_t host_buffer_bytes(const CkptEngine* engine) {
  return engine->engine->host_bytes();
}

std::uint64_t budget(const CkptEngine* engine) {
  return engine->engine->budget();
}

std::uint64_t budget_left(const CkptEngine* engine) {
  return engine->engine->budget_left();
}

CkptCode allocate(CkptEngine* engine, std::uint64_t bytes, CkptDeviceBuffer** buffer, CkptFailure* failure) {
  return guarded(failure, [&]() -> Status {
    CKPT_ASSIGN_OR_RETURN(*buffer, engine->engine->allocate(bytes));
    return {};
  });
}

void release(CkptEngine* engine, CkptDeviceBuffer* buffer) {
  engine->engine->release(buffer);
}

void* device_address(const CkptDeviceBuffer* buffer) {
  return buffer->data;
}

CkptCode upload(CkptEngine* engine, CkptHostBuffer* from, std::uint64_t offset, std::uint64_t bytes,
                CkptView to, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->upload(*from, offset, bytes, to); });
}

CkptCode download(CkptEngine* engine, CkptView from, std::uint64_t bytes, CkptHostBuffer* to,
                  std::uint64_t offset, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->download(from, bytes, *to, offset); });
}

std::int32_t can_cast(std::int32_t source_dtype, std::int32_t target_dtype) {
  if (element_size(source_dtype) == 0) return 0;
  return source_dtype == target_dtype || (is_number(source_dtype) && is_number(target_dtype)) ? 1 : 0;
}

CkptCode gather(CkptEngine* engine, const CkptGather* gather, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->gather(*gather); });
}

CkptCode gather_rows(CkptEngine* engine, const CkptRows* rows, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->gather_rows(*rows); });
}

void* compute_stream(const CkptEngine* engine) {
  return engine->engine->compute_stream();
}

CkptCode begin_compute(CkptEngine* engine, CkptDeviceBuffer* const* buffers, std::size_t count,
                       CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->begin_compute({buffers, count}); });
}

CkptCode end_compute(CkptEngine* engine, CkptDeviceBuffer* const* buffers, std::size_t count,
                     CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->end_compute({buffers, count}); });
}

CkptCode synchronize(CkptEngine* engine, CkptFailure* failure) {
  return guarded(failure, [&] { return engine->engine->synchronize(); });
}

constexpr CkptTransfer kTransfer = {
    sizeof(CkptTransfer),
    CKPT_MODULE_ABI_VERSION,
    device_count,
    describe_device,
    open_engine,
    close_engine,
    next_host_buffer,
    wait_host_buffer,
    host_buffer_bytes,
    budget,
    budget_left,
    allocate,
    release,
    device_address,
    upload,
    download,
    can_cast,
    gather,
    gather_rows,
    compute_stream,
    begin_compute,
    end_compute,
    synchronize,
};

}  // namespace
}  // namespace ckpt::cuda

extern "C" CKPT_EXPORT const CkptTransfer* ckpt_transfer_module(std::uint32_t version) {
  return version == CKPT_MODULE_ABI_VERSION ? &ckpt::cuda::kTransfer : nullptr;
}
