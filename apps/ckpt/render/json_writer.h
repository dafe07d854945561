// SPDX-License-Identifier: BSD-3-Clause
// Streams JSON to a Stream, value by value: nothing that grows with tensors is built in memory.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "console.h"

namespace ckpt::cli {

class JsonWriter {
 public:
  explicit JsonWriter(Stream& stream) : stream_(stream) {}

  JsonWriter& begin_object() { return open('{'); }

  JsonWriter& end_object() { return close('}'); }

  JsonWriter& begin_array() { return open('['); }

  JsonWriter& end_array() { return close(']'); }

  /// `name` is one of ours: it needs no escapes.
  JsonWriter& key(std::string_view name) {
    separate();
    put('"');
    put(name);
    put("\":");
    after_value_ = false;
    return *this;
  }

  JsonWriter& string(std::string_view text) {
    separate();
    if (text.size() < kPiece && needs_no_escape(text)) {
      put('"');
      put(text);
      put('"');
    } else {
      hand_over();
      append_json_string(stream_.buffer(), text);
    }
    return done();
  }

  JsonWriter& number(std::uint64_t value) { return formatted(value); }

  JsonWriter& number(std::int64_t value) { return formatted(value); }

  JsonWriter& number(int value) { return formatted(value); }

  JsonWriter& boolean(bool value) { return raw(value ? "true" : "false"); }

  JsonWriter& null() { return raw("null"); }

  /// A string, or null where it is empty.
  JsonWriter& string_or_null(std::string_view text) { return text.empty() ? null() : string(text); }

  /// JSON made elsewhere.
  JsonWriter& raw(std::string_view json) {
    separate();
    put(json);
    return done();
  }

  /// Ends the document with a newline. Without it, what was written last may be missing.
  void finish() {
    put('\n');
    hand_over();
  }

 private:
  void separate() {
    if (after_value_) put(',');
  }

  JsonWriter& open(char bracket) {
    separate();
    put(bracket);
    after_value_ = false;
    return *this;
  }

  JsonWriter& close(char bracket) {
    put(bracket);
    return done();
  }

  template <typename T>
  JsonWriter& formatted(T value) {
    separate();
    const fmt::format_int digits(value);
    put({digits.data(), digits.size()});
    return done();
  }

  JsonWriter& done() {
    after_value_ = true;
    return *this;
  }

  void put(char c) {
    if (size_ == kPiece) hand_over();
    piece_[size_++] = c;
  }

  void put(std::string_view text) {
    if (text.size() > kPiece - size_) hand_over();
    if (text.size() > kPiece) {
      stream_.print(text);
      return;
    }
    std::memcpy(piece_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }

  void hand_over() {
    stream_.print({piece_.data(), size_});
    size_ = 0;
  }

  // A document is hundreds of small pieces for each tensor: they are put together here, which costs a few
  // instructions each, and handed on a page at a time.
  static constexpr std::size_t kPiece = 4096;
  Stream& stream_;
  std::array<char, kPiece> piece_;
  std::size_t size_ = 0;
  bool after_value_ = false;  ///< a comma comes next, unless a bracket closes
};

}  // namespace ckpt::cli
