// SPDX-License-Identifier: BSD-3-Clause
// What a command gets to talk to: its streams and what is known about the terminal. Whole commands run in
// tests with streams in memory.
#pragma once

#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/result.h"

namespace ckpt::cli {

/// Buffered text output. Errors are remembered, not thrown; `failed()` tells.
class Stream {
 public:
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  void print(std::string_view text) {
    buffer_ += text;
    if (buffer_.size() >= kFlushAt) flush();
  }

  /// Text that is buffered already.
  void print_now(std::string_view text) {
    flush();
    emit(text);
  }

  template <typename... Args>
  void format(fmt::format_string<Args...> text, Args&&... args) {
    fmt::format_to(std::back_inserter(buffer_), text, std::forward<Args>(args)...);
    if (buffer_.size() >= kFlushAt) flush();
  }

  /// For writers that append piece by piece; call `settle` now and then.
  std::string& buffer() { return buffer_; }

  void settle() {
    if (buffer_.size() >= kFlushAt) flush();
  }

  void flush() {
    if (!buffer_.empty()) emit(buffer_);
    buffer_.clear();
  }

  /// What a person would have to hear about writing, or empty.
  virtual std::string failure() const { return {}; }

  /// Of the terminal that this is, now; 0: it is none, or does not say.
  virtual std::size_t columns() const { return 0; }

 protected:
  virtual void emit(std::string_view text) = 0;

 private:
  static constexpr std::size_t kFlushAt = 256 * 1024;
  std::string buffer_;
};

/// A descriptor of the process.
class DescriptorStream final : public Stream {
 public:
  explicit DescriptorStream(int descriptor) : descriptor_(descriptor) {}

  std::string failure() const override { return failure_; }

  std::size_t columns() const override;

 protected:
  void emit(std::string_view text) override;

 private:
  void widen_pipe();

  int descriptor_;
  bool widened_ = false;
  std::string failure_;
};

/// Memory, for tests.
class StringStream final : public Stream {
 public:
  std::string text() {
    flush();
    return text_;
  }

 protected:
  void emit(std::string_view text) override { text_ += text; }

 private:
  std::string text_;
};

enum class When { kAuto, kAlways, kNever };

struct Console {
  Stream& out;
  Stream& err;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  int width = 80;                        ///< columns of the terminal
  bool no_color = false;                 ///< NO_COLOR is set
  std::vector<std::string> arguments{};  ///< of the program: the command line, to be shown again

  // set by the options every command shares
  bool quiet = false;
  bool json = false;
  When color = When::kAuto;
  When progress = When::kAuto;

  bool colored() const {
    return color == When::kAlways || (color == When::kAuto && out_is_terminal && !no_color);
  }
};

/// Prints "ckpt: …" and the hint; the only way errors reach a person.
void print_error(Console& console, const Error& error);

/// The console of this process.
struct ProcessConsole {
  DescriptorStream out{1};
  DescriptorStream err{2};
  Console console{out, err};
  ProcessConsole();
};

}  // namespace ckpt::cli
