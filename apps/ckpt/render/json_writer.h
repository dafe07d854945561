// SPDX-License-Identifier: BSD-3-Clause
// Streams JSON to a Stream, value by value: nothing that grows with tensors is built in memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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
    auto& out = buffer();
    const auto at = out.size();
    out.resize(at + name.size() + 3, '"');
    name.copy(out.data() + at + 1, name.size());
    out.back() = ':';
    after_key_ = true;
    return *this;
  }

  JsonWriter& string(std::string_view text) {
    separate();
    append_json_string(buffer(), text);
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
    buffer() += json;
    return done();
  }

  /// Ends the document with a newline.
  void finish() { buffer() += '\n'; }

 private:
  std::string& buffer() { return stream_.buffer(); }

  void separate() {
    if (after_key_) {
      after_key_ = false;
      return;
    }
    if (!has_items_.empty()) {
      if (has_items_.back()) buffer() += ',';
      has_items_.back() = true;
    }
  }

  JsonWriter& open(char bracket) {
    separate();
    buffer() += bracket;
    has_items_.push_back(false);
    return *this;
  }

  JsonWriter& close(char bracket) {
    buffer() += bracket;
    has_items_.pop_back();
    return done();
  }

  template <typename T>
  JsonWriter& formatted(T value) {
    separate();
    const fmt::format_int digits(value);
    buffer().append(digits.data(), digits.size());
    return done();
  }

  JsonWriter& done() {
    stream_.settle();
    return *this;
  }

  Stream& stream_;
  std::vector<bool> has_items_;
  bool after_key_ = false;
};

}  // namespace ckpt::cli
