// SPDX-License-Identifier: BSD-3-Clause
// The sink over a descriptor. Small pieces are gathered, large ones go straight to the kernel.
#pragma once

#include <cstdint>
#include <utility>

#include "ckpt/io/byte_sink.h"
#include "ckpt/io/file.h"

namespace ckpt {

/// Writes to a File it does not own, which must outlive it. After a failure every call fails the same
/// way, so what has a hole can never be taken for finished.
class FileSink final : public ByteSink {
 public:
  explicit FileSink(const File& file) : file_(file) {}

  Status write(ByteView bytes) override;
  Status copy_from(const ByteSource& source, Extent extent) override;

  std::uint64_t position() const override { return position_; }

  /// Precondition of these two: a regular file, of which this sink writes the beginning.
  Status write_ahead(std::uint64_t offset, ByteView bytes) override { return file_.write_at(offset, bytes); }

  Status skip(std::uint64_t size) override;

  /// Hands what was gathered to the kernel. The destructor does not.
  Status flush();

 private:
  Status append(ByteView bytes);
  Status copy(const ByteSource& source, Extent extent);
  Status copy_small(const ByteSource& source, Extent extent);
  Status settle(Status status, std::uint64_t size);

  const File& file_;
  Bytes gathered_;
  std::uint64_t position_ = 0;
  Status failure_;
};

}  // namespace ckpt
