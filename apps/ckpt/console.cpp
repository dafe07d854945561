// SPDX-License-Identifier: BSD-3-Clause
#include "console.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "ckpt/base/text.h"

namespace ckpt::cli {

namespace {

constexpr std::size_t kUsualPipe = 64 * 1024;  // bytes, as Linux makes them
constexpr int kWidePipe = 1024 * 1024;         // the most that it gives everybody

}  // namespace

/// Long output through a pipe: the reader takes what is there while more is made. It is a wish, since users
/// have limits and not everything is a pipe.
void DescriptorStream::widen_pipe() {
  if (::fcntl(descriptor_, F_GETPIPE_SZ) < kWidePipe) ::fcntl(descriptor_, F_SETPIPE_SZ, kWidePipe);
}

std::size_t DescriptorStream::columns() const {
  winsize size{};
  return ::isatty(descriptor_) == 1 && ::ioctl(descriptor_, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void DescriptorStream::emit(std::string_view text) {
  if (text.size() > kUsualPipe && !std::exchange(widened_, true)) widen_pipe();
  while (!text.empty() && failure_.empty()) {
    const auto written = ::write(descriptor_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      failure_ = std::strerror(errno);
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void print_error(Console& console, const Error& error) {
  console.out.flush();
  console.err.format("ckpt: {}\n", error.text());
  if (!error.hint().empty()) console.err.format("  hint: {}\n", error.hint());
  console.err.flush();
}

ProcessConsole::ProcessConsole() {
  console.out_is_terminal = ::isatty(1) == 1;
  console.err_is_terminal = ::isatty(2) == 1;
  const auto* no_color = std::getenv("NO_COLOR");
  console.no_color = no_color != nullptr && *no_color != '\0';
  winsize size{};
  if (console.out_is_terminal && ::ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
    console.width = size.ws_col;
}

}  // namespace ckpt::cli
