// SPDX-License-Identifier: BSD-3-Clause
// Failure as a value: Error says what is wrong and where, Result<T> is a value or an Error, Status is
// success or an Error. Exceptions are left to bugs and to std::bad_alloc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "ckpt/base/export.h"

namespace ckpt {

/// What went wrong, in the few kinds a caller can act on. The spelling in JSON is `error_code_name`.
enum class ErrorCode : std::uint8_t {
  kUsage,        ///< the command line or a plan asks for something meaningless
  kNotFound,     ///< a file, a path or a key does not exist
  kExists,       ///< an output exists already
  kIo,           ///< the operating system said no
  kCorrupt,      ///< the bytes contradict their format
  kUnsupported,  ///< well-formed, but not something this version handles
  kRefused,      ///< possible, but not safe
  kBackend,      ///< a module that computes failed
  kInternal,     ///< a bug of ours
};

/// The stable spelling used in JSON: "usage", "not-found", "exists", …
CKPT_EXPORT std::string_view error_code_name(ErrorCode code);

/// A failure: code, message, place and an optional hint the reader can act on.
///
/// Messages are lower case without a full stop, most important fact first, subjects in single quotes.
/// Each layer adds the part of the place that it alone knows (byte offset, record, file).
class [[nodiscard]] CKPT_EXPORT Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }

  const std::string& message() const { return message_; }

  const std::string& file() const { return file_; }

  const std::string& record() const { return record_; }

  std::optional<std::uint64_t> offset() const { return offset_; }

  const std::string& hint() const { return hint_; }

  /// Byte offset inside the record, or inside the file where there is no record. The first one stays.
  Error&& at(std::uint64_t offset) &&;
  /// Member of an archive. The first one stays.
  Error&& in_record(std::string_view record) &&;
  /// Path of the file as the user wrote it. The first one stays.
  Error&& in_file(std::string_view file) &&;
  Error&& with_hint(std::string_view hint) &&;

  /// "model.pt: record 'data.pkl', byte 1045: unknown pickle opcode 0x1f", without program and hint.
  std::string text() const;

 private:
  ErrorCode code_;
  std::string message_;
  std::string file_;
  std::string record_;
  std::optional<std::uint64_t> offset_;
  std::string hint_;
};

/// A value or the Error that kept it from existing.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design

  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  bool ok() const { return state_.index() == 0; }

  explicit operator bool() const { return ok(); }

  /// Precondition of `value` and `*`/`->`: ok(). Of `error`: !ok().
  T& value() & { return std::get<0>(state_); }

  const T& value() const& { return std::get<0>(state_); }

  T&& value() && { return std::get<0>(std::move(state_)); }

  T& operator*() & { return value(); }

  const T& operator*() const& { return value(); }

  T* operator->() { return &value(); }

  const T* operator->() const { return &value(); }

  Error& error() & { return std::get<1>(state_); }

  const Error& error() const& { return std::get<1>(state_); }

  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

/// Success, or the Error.
class [[nodiscard]] Status {
 public:
  Status() {}  // NOLINT: spares clearing an Error that isn't there

  Status(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  bool ok() const { return !error_.has_value(); }

  explicit operator bool() const { return ok(); }

  Error& error() & { return *error_; }

  const Error& error() const& { return *error_; }

  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

}  // namespace ckpt

/// Leaves the enclosing function with the Error of `expression` (a Status or a Result), if it has one.
#define CKPT_RETURN_IF_ERROR(expression)                                                           \
  do {                                                                                             \
    if (auto ckpt_status = (expression); !ckpt_status.ok()) return std::move(ckpt_status).error(); \
  } while (false)

#define CKPT_CONCAT_INNER(a, b) a##b
#define CKPT_CONCAT(a, b) CKPT_CONCAT_INNER(a, b)
#define CKPT_ASSIGN_OR_RETURN_INNER(temporary, target, expression) \
  auto temporary = (expression);                                   \
  if (!temporary.ok()) return std::move(temporary).error();        \
  target = std::move(temporary).value()

/// `CKPT_ASSIGN_OR_RETURN(auto value, make());` takes the value or leaves with the Error.
#define CKPT_ASSIGN_OR_RETURN(target, expression) \
  CKPT_ASSIGN_OR_RETURN_INNER(CKPT_CONCAT(ckpt_result_, __LINE__), target, expression)
