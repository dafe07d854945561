// SPDX-License-Identifier: BSD-3-Clause
// Random reading by offset. A source never maps the file: a file that shrinks while it is read is an
// error, not a signal.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "ckpt/base/bytes.h"
#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/io/extent.h"

namespace ckpt {

/// Bytes that can be read at any offset. Reading does not change it, so one source serves many readers.
class CKPT_EXPORT ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  /// What the user calls it: a path, or "standard input".
  virtual const std::string& name() const = 0;
  /// Bytes, as they were when it was opened.
  virtual std::uint64_t size() const = 0;
  /// Fills all of `out` from `offset`.
  /// Errors: kCorrupt when the range reaches past the end (or the file shrank), kIo when reading fails.
  virtual Status read_at(std::uint64_t offset, std::span<std::byte> out) const = 0;

  /// The descriptor a kernel copy may read from, or -1 where there is none.
  virtual int descriptor() const { return -1; }

  /// kCorrupt, with the numbers, unless `extent` lies within the source.
  Status require(Extent extent) const;
  /// The bytes of `extent`, all in memory. For metadata: the caller bounds the size first.
  Result<Bytes> read(Extent extent) const;
};

/// A source over bytes it owns; for tests and for inflated records.
class CKPT_EXPORT MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, Bytes bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {}

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return bytes_.size(); }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  std::string name_;
  Bytes bytes_;
};

/// A file, opened for reading: it stays the same file whatever happens to the path. A FIFO or a character
/// device (/dev/stdin) is spooled in TMPDIR or /tmp, like standard input.
/// Errors: kNotFound, kIo; kUnsupported for a directory; kRefused for a terminal.
CKPT_EXPORT Result<std::shared_ptr<const ByteSource>> open_file_source(const std::string& path);

/// Standard input. A file that nobody has read from yet is used where it lies; all else (a pipe, the rest
/// of a file) is spooled into an unlinked file in `spool_directory` (the output's), or where that is empty
/// or not writable in TMPDIR or /tmp. Errors: kIo; kUnsupported for a directory; kRefused for a terminal.
CKPT_EXPORT Result<std::shared_ptr<const ByteSource>> open_standard_input(const std::string& spool_directory);

}  // namespace ckpt
