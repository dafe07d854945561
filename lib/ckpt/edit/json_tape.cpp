// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/json_tape.h"

#include <bit>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ckpt/base/text.h"

namespace ckpt {

/// Receives the parser's events. A function that returns false stops it; `error` then says why.
class JsonTapeBuilder {
 public:
  explicit JsonTapeBuilder(const JsonLimits& limits) : limits_(limits) {}

  std::optional<Error> error;

  JsonTape take() { return std::move(tape_); }

  // ---- events, named by nlohmann::json_sax

  bool null() { return add(JsonTape::Kind::kNull); }

  bool boolean(bool value) { return add(JsonTape::Kind::kBoolean, value ? 1 : 0); }

  bool number_integer(std::int64_t value) { return number_float(static_cast<double>(value), {}); }

  bool number_unsigned(std::uint64_t value) { return add(JsonTape::Kind::kNumber, value); }

  bool number_float(double value, const std::string& /*text*/) {
    return add(JsonTape::Kind::kOtherNumber, std::bit_cast<std::uint64_t>(value));
  }

  bool binary(const std::vector<std::uint8_t>& /*value*/) {
    return add(JsonTape::Kind::kNull);
  }  // not in text

  bool string(const std::string& value) {
    const auto at = static_cast<std::uint64_t>(tape_.pool_.size());  // below 2^32: the text is
    tape_.pool_ += value;
    return add(JsonTape::Kind::kString, at << 32U | value.size());
  }

  bool key(const std::string& name) { return string(name); }

  bool start_object(std::size_t /*elements*/) { return open(JsonTape::Kind::kObject); }

  bool start_array(std::size_t /*elements*/) { return open(JsonTape::Kind::kArray); }

  bool end_object() { return close(); }

  bool end_array() { return close(); }

  template <typename Exception>
  bool parse_error(std::size_t byte, const std::string& /*last_token*/, const Exception& /*exception*/) {
    error = Error(ErrorCode::kCorrupt, "this is no well-formed JSON").at(byte > 0 ? byte - 1 : 0);
    return false;
  }

 private:
  bool add(JsonTape::Kind kind, std::uint64_t value = 0) {
    if (tape_.nodes_.size() == limits_.values) {
      error = Error(ErrorCode::kUnsupported, fmt::format("more than {} values", limits_.values));
      return false;
    }
    tape_.nodes_.push_back({value, static_cast<JsonTape::Index>(tape_.nodes_.size() + 1), kind});
    return true;
  }

  bool open(JsonTape::Kind kind) {
    if (open_.size() == limits_.depth) {
      error = Error(ErrorCode::kUnsupported, fmt::format("nested deeper than {} levels", limits_.depth));
      return false;
    }
    open_.push_back(tape_.nodes_.size());
    return add(kind);
  }

  bool close() {
    tape_.nodes_[open_.back()].end = static_cast<JsonTape::Index>(tape_.nodes_.size());
    open_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  JsonTape tape_;
  std::vector<std::size_t> open_;  ///< containers
};

Result<JsonTape> JsonTape::parse(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.text) {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("{} bytes of JSON, at most {} are read", text.size(), limits.text));
  }
  // The parser would take a NUL for the end of its input.
  if (const auto nul = text.find('\0'); nul != text.npos)
    return Error(ErrorCode::kCorrupt, "this is no well-formed JSON").at(nul);
  JsonTapeBuilder builder(limits);
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return builder.take();
  if (builder.error) return *std::move(builder.error);
  return Error(ErrorCode::kInternal, "the JSON parser stopped without a reason");
}

double JsonTape::real(Index at) const {
  const auto value = nodes_[at].value;
  return kind(at) == Kind::kNumber ? static_cast<double>(value) : std::bit_cast<double>(value);
}

std::string_view JsonTape::string(Index at) const {
  constexpr std::uint64_t kSize = 0xFFFFFFFFU;
  const auto value = nodes_[at].value;
  return std::string_view(pool_).substr(value >> 32U, value & kSize);
}

std::string JsonTape::describe(Index at) const {
  constexpr std::size_t kShown = 40;  // bytes
  switch (kind(at)) {
    case Kind::kNull: return "null";
    case Kind::kBoolean: return boolean(at) ? "true" : "false";
    case Kind::kNumber: return fmt::format("the number {}", number(at));
    case Kind::kOtherNumber: return "a number that is negative, a fraction or too large";
    case Kind::kString: {
      const auto text = string(at);
      return text.size() > kShown ? fmt::format("a string of {} bytes", text.size())
                                  : "the string " + quoted(text);
    }
    case Kind::kArray: return "an array";
    case Kind::kObject: return "an object";
  }
  return "a value";
}

}  // namespace ckpt
