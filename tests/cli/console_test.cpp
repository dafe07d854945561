// SPDX-License-Identifier: BSD-3-Clause
// Streams of a console: long output makes room in a pipe.
#include "console.h"

#include <fcntl.h>

#include <string>

#include "support/catch.h"
#include "support/descriptors.h"

namespace ckpt::test {
namespace {

constexpr int kUsual = 65536;
constexpr int kWide = 1 << 20;

/// Bytes that the pipe holds after `text` was printed to it; it holds `before` first.
int room_after(const std::string& text, int before = kUsual) {
  DrainedPipe pipe;
  if (::fcntl(pipe.input(), F_SETPIPE_SZ, before) < before) return before;  // a limit of this user's
  cli::DescriptorStream stream(pipe.input());
  stream.print(text);
  stream.flush();
  const auto room = ::fcntl(pipe.input(), F_GETPIPE_SZ);
  CHECK(stream.failure() == "");
  CHECK((pipe.finish() == text));
  return room;
}

bool may_widen() {
  const DrainedPipe pipe;
  return ::fcntl(pipe.input(), F_SETPIPE_SZ, kWide) == kWide;
}

TEST_CASE("long output widens a pipe, short output leaves it alone", "[cli]") {
  CHECK(room_after("short\n") == kUsual);
  CHECK(room_after(std::string(300'000, 'x')) == (may_widen() ? kWide : kUsual));
}

TEST_CASE("a pipe that is wider is not narrowed", "[cli]") {
  CHECK(room_after(std::string(300'000, 'x'), 2 * kWide) == 2 * kWide);
}

}  // namespace
}  // namespace ckpt::test
