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
  enum class Begin : std::uint8_t { kFirst, kAfterOthers };

  /// `begin`: is what is written first behind other values of an array that another writer wrote?
  explicit JsonWriter(Stream& stream, Begin begin = Begin::kFirst)
      : stream_(stream), after_value_(begin == Begin::kAfterOthers) {}

  JsonWriter& begin_object() { return open('{'); }

  JsonWriter& end_object() { return close('}'); }

  JsonWriter& begin_array() { return open('['); }

  JsonWriter& end_array() { return close(']'); }

  /// `name` is one of ours: it needs no escapes.
  JsonWriter& key(std::string_view name) {
    string_of_ours(name);
    put(':');
    after_value_ = false;
    return *this;
  }

  /// The same for a name in the source, whose length the compiler knows.
  template <std::size_t N>
  JsonWriter& key(const char (&name)[N]) {
    auto* at = separate(N + 3);
    *at++ = '"';
    std::memcpy(at, name, N - 1);
    at += N - 1;
    *at++ = '"';
    *at++ = ':';
    end_at(at);
    after_value_ = false;
    return *this;
  }

  JsonWriter& string(std::string_view text) {
    auto* at = separate(1);
    if (text.size() <= kShort) {
      at = room(escaped_size(text.size()) + 2);
      *at++ = '"';
      at = escape_json(at, text);
      *at++ = '"';
      end_at(at);
    } else {
      hand_over();
      append_json_string(stream_.buffer(), text);
    }
    return done();
  }

  /// A string that is one of ours: it needs no escapes.
  JsonWriter& string_of_ours(std::string_view text) {
    separate(1);
    put('"');
    put(text);
    put('"');
    return done();
  }

  JsonWriter& number(std::uint64_t value) {
    if (value > 9) return formatted(value);
    auto* const at = separate(2);
    *at = static_cast<char>('0' + value);
    end_at(at + 1);
    return done();
  }

  JsonWriter& number(std::int64_t value) { return formatted(value); }

  JsonWriter& number(int value) { return formatted(value); }

  JsonWriter& boolean(bool value) { return value ? raw("true") : raw("false"); }

  JsonWriter& null() { return raw("null"); }

  /// A string, or null where it is empty.
  JsonWriter& string_or_null(std::string_view text) { return text.empty() ? null() : string(text); }

  /// JSON made elsewhere.
  JsonWriter& raw(std::string_view json) {
    separate(1);
    put(json);
    return done();
  }

  /// Ends the document with a newline. Without it or `stream`, what was written last may be missing.
  void finish() {
    put('\n');
    hand_over();
  }

  /// What was written so far stands in it.
  Stream& stream() {
    hand_over();
    return stream_;
  }

 private:
  /// Where `size` more bytes can be written, of which `end_at` tells how many were. `size` is far below
  /// kPiece.
  char* room(std::size_t size) {
    if (size > kPiece - size_) hand_over();
    return piece_.data() + size_;
  }

  void end_at(const char* end) { size_ = static_cast<std::size_t>(end - piece_.data()); }

  /// The comma, where one is due. Returns where a value of up to `size` bytes, one for the comma, goes on.
  char* separate(std::size_t size) {
    auto* const at = room(size);
    *at = ',';
    size_ += after_value_ ? 1 : 0;
    return piece_.data() + size_;
  }

  JsonWriter& open(char bracket) {
    auto* const at = separate(2);
    *at = bracket;
    end_at(at + 1);
    after_value_ = false;
    return *this;
  }

  JsonWriter& close(char bracket) {
    put(bracket);
    return done();
  }

  template <typename T>
  JsonWriter& formatted(T value) {
    separate(1);
    const fmt::format_int digits(value);
    put({digits.data(), digits.size()});
    return done();
  }

  JsonWriter& done() {
    after_value_ = true;
    return *this;
  }

  void put(char c) {
    auto* const at = room(1);
    *at = c;
    end_at(at + 1);
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
  static constexpr std::size_t kShort = 512;  ///< bytes of a string that is escaped in place
  Stream& stream_;
  std::array<char, kPiece> piece_;
  std::size_t size_ = 0;
  bool after_value_;  ///< a comma comes next, unless a bracket closes
};

}  // namespace ckpt::cli
