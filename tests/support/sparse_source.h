// SPDX-License-Identifier: BSD-3-Clause
// A file of terabytes in a few bytes: zeros with pieces of something else, and a count of what is read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "ckpt/base/bytes.h"
#include "ckpt/io/byte_source.h"

namespace ckpt::test {

class SparseSource final : public ByteSource {
 public:
  using Pieces = std::map<std::uint64_t, Bytes>;

  /// Pieces must not overlap. The last one ends the file.
  void put(std::uint64_t offset, Bytes bytes) {
    size_ = std::max(size_, offset + bytes.size());
    pieces_.emplace(offset, std::move(bytes));
  }

  const Pieces& pieces() const { return pieces_; }

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return size_; }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
    ++reads;
    bytes_read += out.size();
    std::fill(out.begin(), out.end(), std::byte{0});
    const auto end = offset + out.size();
    auto piece = pieces_.upper_bound(offset);
    if (piece != pieces_.begin()) --piece;
    for (; piece != pieces_.end() && piece->first < end; ++piece) {
      const auto from = std::max(offset, piece->first);
      const auto to = std::min(end, piece->first + piece->second.size());
      if (from >= to) continue;
      const auto begin = piece->second.begin() + static_cast<std::ptrdiff_t>(from - piece->first);
      std::copy_n(begin, to - from, out.begin() + static_cast<std::ptrdiff_t>(from - offset));
    }
    return {};
  }

  mutable std::uint64_t reads = 0;
  mutable std::uint64_t bytes_read = 0;

 private:
  std::string name_ = "sparse.pt";
  std::uint64_t size_ = 0;
  Pieces pieces_;
};

}  // namespace ckpt::test
