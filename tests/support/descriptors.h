// SPDX-License-Identifier: BSD-3-Clause
// Descriptors in tests: one that stands in for standard input or output, a pipe whose other end is read
// or written by a thread, a pseudo-terminal.
#pragma once

#include <fcntl.h>
#include <stdlib.h>  // NOLINT: posix_openpt is not in <cstdlib>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

namespace ckpt::test {

/// Lets `number` (0 or 1) mean another open file until the end of the scope. Takes no ownership.
class Redirected {
 public:
  Redirected(int number, int replacement) : number_(number), before_(::dup(number)) {
    ::dup2(replacement, number_);
  }

  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;

  ~Redirected() {
    ::dup2(before_, number_);
    ::close(before_);
  }

 private:
  int number_;
  int before_;
};

inline std::string read_all(int descriptor) {
  std::string all;
  std::array<char, 4096> chunk{};
  for (ssize_t got = 0; (got = ::read(descriptor, chunk.data(), chunk.size())) > 0;) {
    all.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return all;
}

/// A pipe that a thread empties: what was written is known once `finish` has closed our end.
class DrainedPipe {
 public:
  DrainedPipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) std::abort();
    reader_ = std::thread([this] { received_ = read_all(ends_[0]); });
  }

  DrainedPipe(const DrainedPipe&) = delete;
  DrainedPipe& operator=(const DrainedPipe&) = delete;

  ~DrainedPipe() {
    finish();
    ::close(ends_[0]);
  }

  int input() const { return ends_[1]; }

  const std::string& finish() {
    if (reader_.joinable()) {
      ::close(ends_[1]);
      reader_.join();
    }
    return received_;
  }

 private:
  std::array<int, 2> ends_{};
  std::string received_;
  std::thread reader_;
};

/// A pipe that a thread fills with `contents` and closes.
class FilledPipe {
 public:
  explicit FilledPipe(std::string_view contents) {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) std::abort();
    writer_ = std::thread([this, contents] {
      for (auto rest = contents; !rest.empty();) {
        const auto put = ::write(ends_[1], rest.data(), rest.size());
        if (put <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(put));
      }
      ::close(ends_[1]);
    });
  }

  FilledPipe(const FilledPipe&) = delete;
  FilledPipe& operator=(const FilledPipe&) = delete;

  ~FilledPipe() {
    writer_.join();
    ::close(ends_[0]);
  }

  int output() const { return ends_[0]; }

 private:
  std::array<int, 2> ends_{};
  std::thread writer_;
};

/// A pseudo-terminal; `path` names the side that programs see. Empty where the system has none.
class PseudoTerminal {
 public:
  PseudoTerminal() : controller_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (controller_ < 0 || ::grantpt(controller_) != 0 || ::unlockpt(controller_) != 0) return;
    std::array<char, 128> name{};
    if (::ptsname_r(controller_, name.data(), name.size()) == 0) path_ = name.data();
  }

  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  ~PseudoTerminal() {
    if (controller_ >= 0) ::close(controller_);
  }

  const std::string& path() const { return path_; }

 private:
  int controller_;
  std::string path_;
};

}  // namespace ckpt::test
