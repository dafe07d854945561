// SPDX-License-Identifier: BSD-3-Clause
// Little-endian fields: loading them from unaligned bytes, and a cursor over a span that can't run off
// its end.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace ckpt {

static_assert(std::endian::native == std::endian::little, "fields are loaded as they lie");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

/// The little-endian integer at `data`, which need not be aligned. Precondition: sizeof(T) bytes there.
template <std::integral T>
T load_le(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

template <std::integral T>
void store_le(std::byte* data, T value) {
  std::memcpy(data, &value, sizeof value);
}

template <std::integral T>
void append_le(Bytes& bytes, T value) {
  const auto at = bytes.size();
  bytes.resize(at + sizeof value);
  store_le(bytes.data() + at, value);
}

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline void append_bytes(Bytes& bytes, ByteView more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

inline void append_text(Bytes& bytes, std::string_view text) {
  append_bytes(bytes, as_bytes(text));
}

/// Reads forward through a span. A read past the end gives 0 or an empty view and sets `failed()`,
/// so a structure is read field by field and checked once.
class ByteCursor {
 public:
  explicit ByteCursor(ByteView bytes) : bytes_(bytes) {}

  template <std::integral T>
  T read() {
    if (remaining() < sizeof(T)) {
      fail();
      return T{};
    }
    auto value = load_le<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return value;
  }

  ByteView take(std::size_t size) {
    if (remaining() < size) {
      fail();
      return {};
    }
    auto view = bytes_.subspan(position_, size);
    position_ += size;
    return view;
  }

  std::size_t position() const { return position_; }

  std::size_t remaining() const { return bytes_.size() - position_; }

  bool failed() const { return failed_; }

 private:
  void fail() {
    failed_ = true;
    position_ = bytes_.size();
  }

  ByteView bytes_;
  std::size_t position_ = 0;
  bool failed_ = false;
};

}  // namespace ckpt
