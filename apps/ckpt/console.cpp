// SPDX-License-Identifier: BSD-3-Clause
#include "console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "ckpt/base/text.h"

namespace ckpt::cli {

void DescriptorStream::emit(std::string_view text) {
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
