// SPDX-License-Identifier: BSD-3-Clause
// Ordered writing. A sink only ever moves forward, so a pipe will do as well as a file. Into a file, bytes
// can be written ahead: what many threads compute does not wait for its turn.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"
#include "ckpt/io/extent.h"

namespace ckpt {

class CKPT_EXPORT ByteSink {
 public:
  ByteSink() = default;
  ByteSink(const ByteSink&) = delete;
  ByteSink& operator=(const ByteSink&) = delete;
  virtual ~ByteSink() = default;

  /// Appends `bytes`. Errors: kIo, with the path.
  virtual Status write(ByteView bytes) = 0;
  /// Appends `extent` of `source`, by the kernel where both have descriptors.
  /// Errors: those of reading and of writing.
  virtual Status copy_from(const ByteSource& source, Extent extent) = 0;
  /// Bytes written so far.
  virtual std::uint64_t position() const = 0;

  /// Are there `write_ahead` and `skip`?
  virtual bool writes_ahead() const { return false; }

  /// Writes `bytes` at `offset`, not before the position, which stays. By any number of threads at once, but
  /// not while the sink moves. Errors: kIo, with the path; kInternal unless `writes_ahead`.
  virtual Status write_ahead(std::uint64_t offset, ByteView bytes);
  /// Moves over `size` bytes that were written ahead. Errors: as before.
  virtual Status skip(std::uint64_t size);
};

/// A sink into memory, for tests.
class CKPT_EXPORT MemorySink final : public ByteSink {
 public:
  Status write(ByteView bytes) override;
  Status copy_from(const ByteSource& source, Extent extent) override;

  std::uint64_t position() const override { return bytes_.size(); }

  bool writes_ahead() const override { return true; }

  Status write_ahead(std::uint64_t offset, ByteView bytes) override;
  Status skip(std::uint64_t size) override;

  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
  std::mutex mutex_;
  std::map<std::uint64_t, Bytes> ahead_;  ///< by offset
};

}  // namespace ckpt
