// SPDX-License-Identifier: BSD-3-Clause
// Ordered writing. A sink only ever moves forward, so a pipe will do as well as a file.
#pragma once

#include <cstdint>

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
};

/// A sink into memory, for tests.
class CKPT_EXPORT MemorySink final : public ByteSink {
 public:
  Status write(ByteView bytes) override;
  Status copy_from(const ByteSource& source, Extent extent) override;

  std::uint64_t position() const override { return bytes_.size(); }

  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace ckpt
