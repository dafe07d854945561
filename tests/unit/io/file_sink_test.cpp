// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/file_sink.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/faulty_sink.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::FaultySink;
using ckpt::test::TempDir;

namespace {

// A few headers, some tensors, a directory: every way in which a sink is used.
Status write_everything(ByteSink& sink, const ByteSource& source) {
  CKPT_RETURN_IF_ERROR(sink.write(as_bytes("header")));
  CKPT_RETURN_IF_ERROR(sink.copy_from(source, {10, 200}));
  CKPT_RETURN_IF_ERROR(sink.write({}));
  CKPT_RETURN_IF_ERROR(sink.write(as_bytes(std::string(300, 'p'))));
  return sink.copy_from(source, {0, 400});
}

MemorySource counting_source(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return {"memory", std::move(bytes)};
}

}  // namespace

TEST_CASE("pieces of all sizes come out in order", "[io]") {
  const TempDir directory;
  const auto memory = counting_source(400'000);
  const auto path = directory.write("source", as_text(memory.read({0, 400'000}).value()));
  const auto on_disk = open_file_source(path).value();

  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same pieces every time
  const auto below = [&](std::uint32_t limit) { return std::uint64_t{random()} % limit; };
  MemorySink expected;
  const File file(::open(directory.path("out").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "out");
  FileSink sink(file);
  for (int i = 0; i < 300; ++i) {
    const Extent extent{below(200'000), below(3) == 0 ? below(200'000) : below(500)};
    const auto bytes = memory.read(extent).value();
    REQUIRE(expected.write(bytes).ok());
    switch (below(3)) {
      case 0: REQUIRE(sink.write(bytes).ok()); break;
      case 1: REQUIRE(sink.copy_from(*on_disk, extent).ok()); break;
      default: REQUIRE(sink.copy_from(memory, extent).ok()); break;
    }
    REQUIRE(sink.position() == expected.position());
  }
  REQUIRE(sink.flush().ok());
  CHECK(directory.read("out") == as_text(expected.bytes()));
}

TEST_CASE("ten thousand small pieces are a few writes", "[io]") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends.data()) == 0);  // one message per write
  const File file(ends[0], "socket");
  FileSink sink(file);
  for (int i = 0; i < 10'000; ++i) REQUIRE(sink.write(as_bytes("0123456789")).ok());
  REQUIRE(sink.flush().ok());
  ::shutdown(ends[0], SHUT_WR);

  std::vector<char> message(1 << 20);
  std::size_t messages = 0;
  std::size_t bytes = 0;
  for (ssize_t got = 0; (got = ::recv(ends[1], message.data(), message.size(), 0)) > 0; ++messages) {
    bytes += static_cast<std::size_t>(got);
  }
  ::close(ends[1]);
  CHECK(bytes == 100'000);
  CHECK(messages == 2);
}

TEST_CASE("a sink that failed once never succeeds again", "[io]") {
  const auto file = File::open("/dev/full", O_WRONLY, "cannot open").value();
  FileSink sink(file);
  REQUIRE(sink.write(as_bytes("gathered")).ok());
  const auto status = sink.flush();
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().text() == "/dev/full: cannot write: No space left on device");
  CHECK_FALSE(sink.write({}).ok());
  CHECK_FALSE(sink.copy_from(counting_source(1), {0, 1}).ok());
  CHECK(sink.flush().error().text() == status.error().text());
}

TEST_CASE("a large piece fails at once on a full device", "[io]") {
  const auto file = File::open("/dev/full", O_WRONLY, "cannot open").value();
  FileSink sink(file);
  CHECK(sink.write(Bytes(1'000'000)).error().code() == ErrorCode::kIo);
  CHECK(sink.position() == 0);
}

TEST_CASE("a copy past the end of its source fails in every sink", "[io]") {
  const auto source = counting_source(10);
  MemorySink memory;
  CHECK(memory.copy_from(source, {5, 6}).error().code() == ErrorCode::kCorrupt);
  CHECK(memory.position() == 0);
  const auto file = File::open("/dev/null", O_WRONLY, "cannot open").value();
  CHECK(FileSink(file).copy_from(source, {5, 6}).error().code() == ErrorCode::kCorrupt);
}

TEST_CASE("the faulty sink fails at the byte it was told to", "[io]") {
  const auto source = counting_source(1000);
  MemorySink complete;
  REQUIRE(write_everything(complete, source).ok());
  for (std::uint64_t room = 0; room < complete.position(); ++room) {
    FaultySink sink(room);
    const auto status = write_everything(sink, source);
    REQUIRE_FALSE(status.ok());
    CHECK(status.error().code() == ErrorCode::kIo);
    CHECK(std::ranges::equal(sink.bytes(), ByteView(complete.bytes()).first(room)));
  }
  FaultySink roomy(complete.position());
  CHECK(write_everything(roomy, source).ok());
  CHECK(roomy.bytes() == complete.bytes());
}
