// SPDX-License-Identifier: BSD-3-Clause
// Small records read through a window: neighbours come from one read, far ones cost a small read each.
// Offsets may be asked for in any order; ascending order is what it is good at.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ckpt/base/bytes.h"
#include "ckpt/base/result.h"
#include "ckpt/io/byte_source.h"

namespace ckpt {

class WindowReader {
 public:
  /// Reads in pieces of `window` bytes where requests lie close together.
  WindowReader(const ByteSource& source, std::size_t window) : source_(source), window_(window) {}

  /// `extent`'s bytes, valid until the next call. Precondition: inside the source, and small (a header).
  Result<ByteView> view(Extent extent) {
    if (!holds(extent)) CKPT_RETURN_IF_ERROR(load(extent));
    return held(extent);
  }

  /// The same in two steps, for a million of calls: `if (!holds(x)) load(x)`, then `held(x)`.
  bool holds(Extent extent) const {
    return extent.offset >= start_ && extent.end() <= start_ + buffer_.size();
  }

  ByteView held(Extent extent) const {
    return ByteView(buffer_).subspan(static_cast<std::size_t>(extent.offset - start_),
                                     static_cast<std::size_t>(extent.size));
  }

  Status load(Extent extent) {
    const bool near = extent.offset >= start_ && extent.offset - start_ <= buffer_.size() + window_;
    const auto wanted = std::max<std::uint64_t>(extent.size, near ? window_ : kFarRead);
    const auto size = std::min(wanted, source_.size() - extent.offset);
    buffer_.resize(static_cast<std::size_t>(size));
    start_ = extent.offset;
    return source_.read_at(start_, buffer_);
  }

 private:
  // A descriptor and the local header behind it, with a name: more than two or three cache lines that nobody
  // has touched yet would be what takes the time.
  static constexpr std::uint64_t kFarRead = 128;
  const ByteSource& source_;
  std::size_t window_;
  std::uint64_t start_ = 0;
  Bytes buffer_;
};

}  // namespace ckpt
