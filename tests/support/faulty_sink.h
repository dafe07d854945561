// SPDX-License-Identifier: BSD-3-Clause
// A disk that fills up at a chosen byte: run an operation with every limit from 0 on, and no write of it
// was forgotten.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ckpt/base/bytes.h"
#include "ckpt/io/byte_sink.h"

namespace ckpt::test {

/// Keeps the first `room` bytes and fails with kIo from then on.
class FaultySink final : public ByteSink {
 public:
  explicit FaultySink(std::uint64_t room) : room_(room) {}

  Status write(ByteView bytes) override {
    const auto fits = std::min<std::uint64_t>(bytes.size(), room_ - bytes_.size());
    append_bytes(bytes_, bytes.first(fits));
    if (fits == bytes.size() && !failed_) return {};
    failed_ = true;
    return Error(ErrorCode::kIo, "cannot write: No space left on device").in_file("faulty sink");
  }

  Status copy_from(const ByteSource& source, Extent extent) override {
    CKPT_ASSIGN_OR_RETURN(const auto bytes, source.read(extent));
    return write(bytes);
  }

  std::uint64_t position() const override { return bytes_.size(); }

  const Bytes& bytes() const { return bytes_; }

  bool failed() const { return failed_; }

 private:
  std::uint64_t room_;
  Bytes bytes_;
  bool failed_ = false;
};

}  // namespace ckpt::test
