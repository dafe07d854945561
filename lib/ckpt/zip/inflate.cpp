// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/inflate.h"

#include <memory>

#include <fmt/format.h>
#include <libdeflate.h>

#include "ckpt/zip/entry_layout.h"

namespace ckpt {
namespace {

// Deflate spends at least 2 bits on a match of at most 258 bytes: 1032 bytes from one.
constexpr std::uint64_t kMaxExpansion = 1032;

constexpr int kLevel = 6;

struct Free {
  void operator()(libdeflate_decompressor* d) const { libdeflate_free_decompressor(d); }

  void operator()(libdeflate_compressor* c) const { libdeflate_free_compressor(c); }
};

}  // namespace

Result<Bytes> inflate(ByteView deflated, std::uint64_t size) {
  if (size / kMaxExpansion > deflated.size()) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("{} deflated bytes can't become {}", deflated.size(), size));
  }
  const std::unique_ptr<libdeflate_decompressor, Free> decompressor(libdeflate_alloc_decompressor());
  if (!decompressor) throw std::bad_alloc();
  Bytes bytes(static_cast<std::size_t>(size));
  std::size_t written = 0;
  const auto outcome = libdeflate_deflate_decompress_ex(decompressor.get(), deflated.data(), deflated.size(),
                                                        bytes.data(), bytes.size(), nullptr, &written);
  if (outcome == LIBDEFLATE_INSUFFICIENT_SPACE) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("deflated data holds more than the {} bytes announced", size));
  }
  if (outcome != LIBDEFLATE_SUCCESS) return Error(ErrorCode::kCorrupt, "deflated data is damaged");
  if (written != size) {
    return Error(ErrorCode::kCorrupt,
                 fmt::format("deflated data holds {} bytes, {} announced", written, size));
  }
  return bytes;
}

Bytes deflate(ByteView bytes) {
  const std::unique_ptr<libdeflate_compressor, Free> compressor(libdeflate_alloc_compressor(kLevel));
  if (!compressor) throw std::bad_alloc();
  Bytes deflated(libdeflate_deflate_compress_bound(compressor.get(), bytes.size()));
  deflated.resize(libdeflate_deflate_compress(compressor.get(), bytes.data(), bytes.size(), deflated.data(),
                                              deflated.size()));
  return deflated;
}

}  // namespace ckpt
