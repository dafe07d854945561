// SPDX-License-Identifier: BSD-3-Clause
// The source over a descriptor. How one is found for a path or for standard input is in the .cpp file,
// declared in byte_source.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "ckpt/io/byte_source.h"
#include "ckpt/io/file.h"

namespace ckpt {

/// The first `size` bytes of an open file, as the user calls it. What is appended later does not count;
/// a file that has become shorter is an error of whoever reads there.
class FileSource final : public ByteSource {
 public:
  FileSource(File file, std::string name, std::uint64_t size)
      : file_(std::move(file)), name_(std::move(name)), size_(size) {}

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return size_; }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override;

  int descriptor() const override { return file_.descriptor(); }

 private:
  File file_;
  std::string name_;
  std::uint64_t size_;
};

}  // namespace ckpt
