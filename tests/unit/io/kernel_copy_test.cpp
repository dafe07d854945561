// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/kernel_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/descriptors.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::DrainedPipe;
using ckpt::test::TempDir;

namespace {

// No two blocks alike, no period that is a multiple of a block.
std::string patterned(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 251 + i / 4099);
  return text;
}

std::shared_ptr<const ByteSource> source_of(const TempDir& directory, const std::string& contents) {
  return open_file_source(directory.write("source", contents)).value();
}

File create(const std::string& path, int flags = 0) {
  return {::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600), path};
}

void check_copies(const TempDir& from, const TempDir& to) {
  const auto contents = patterned(300'000);
  const auto source = source_of(from, contents);
  for (const std::uint64_t offset : {0U, 1U, 64U, 4095U, 4096U, 8192U, 100'000U}) {
    for (const std::uint64_t size : {0U, 1U, 4095U, 4096U, 8193U, 200'000U}) {
      for (const std::uint64_t before : {0U, 1U, 64U, 4096U, 100'000U}) {
        auto file = create(to.path("copy"), O_TRUNC);
        REQUIRE(file.write(as_bytes(std::string(before, '#'))).ok());
        REQUIRE(kernel_copy(*source, {offset, size}, file).ok());
        REQUIRE(file.write(as_bytes("end")).ok());  // the file position has followed
        INFO("offset " << offset << " size " << size << " behind " << before);
        CHECK(to.read("copy") == std::string(before, '#') + contents.substr(offset, size) + "end");
      }
    }
  }
}

}  // namespace

TEST_CASE("a kernel copy is the bytes of the source, whatever the alignment", "[io]") {
  const TempDir directory;
  check_copies(directory, directory);
}

TEST_CASE("a kernel copy crosses file systems", "[io]") {
  if (!std::filesystem::is_directory("/dev/shm") || ::access("/dev/shm", W_OK) != 0) return;
  const TempDir directory;
  const TempDir memory("/dev/shm");
  check_copies(directory, memory);
  check_copies(memory, directory);
}

TEST_CASE("a kernel copy goes into a pipe", "[io]") {
  const TempDir directory;
  const auto contents = patterned(1'000'000);
  DrainedPipe pipe;
  {
    const auto file = File::duplicate(pipe.input(), "pipe", "cannot open").value();
    REQUIRE(kernel_copy(*source_of(directory, contents), {1000, 900'000}, file).ok());
  }
  CHECK(pipe.finish() == contents.substr(1000, 900'000));
}

TEST_CASE("a pipe that does not wait is waited for", "[io]") {
  const TempDir directory;
  const auto contents = patterned(1'000'000);
  DrainedPipe pipe;
  ::fcntl(pipe.input(), F_SETFL, O_NONBLOCK);
  {
    const auto file = File::duplicate(pipe.input(), "pipe", "cannot open").value();
    REQUIRE(kernel_copy(*source_of(directory, contents), {0, contents.size()}, file).ok());
  }
  CHECK(pipe.finish() == contents);
}

TEST_CASE("a kernel copy appends where the destination does", "[io]") {
  const TempDir directory;
  const auto contents = patterned(10'000);
  directory.write("log", "before");
  const auto file = create(directory.path("log"), O_APPEND);
  REQUIRE(kernel_copy(*source_of(directory, contents), {0, contents.size()}, file).ok());
  CHECK(directory.read("log") == "before" + contents);
}

TEST_CASE("a source without a descriptor is copied through memory", "[io]") {
  const TempDir directory;
  const auto contents = patterned(3'000'000);
  Bytes bytes;
  append_text(bytes, contents);
  const auto file = create(directory.path("copy"));
  REQUIRE(kernel_copy(MemorySource("memory", std::move(bytes)), {5, 2'900'000}, file).ok());
  CHECK(directory.read("copy") == contents.substr(5, 2'900'000));
}

TEST_CASE("a copy past the end of the source is refused before anything moves", "[io]") {
  const TempDir directory;
  const auto source = source_of(directory, "0123456789");
  directory.write("source", "0123456789, and more since");
  const auto file = create(directory.path("copy"));
  CHECK(kernel_copy(*source, {0, 11}, file).error().code() == ErrorCode::kCorrupt);
  CHECK(directory.read("copy").empty());
}

TEST_CASE("a source that shrinks during a copy is corrupt", "[io]") {
  const TempDir directory;
  const auto source = source_of(directory, patterned(100'000));
  REQUIRE(::truncate(source->name().c_str(), 50'000) == 0);
  const auto file = create(directory.path("copy"));
  const auto status = kernel_copy(*source, {0, 100'000}, file);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kCorrupt);
  CHECK(status.error().text() ==
        source->name() + ": file is shorter than when it was opened: byte 50000 of 100000 is gone");
}

TEST_CASE("a full destination is named", "[io]") {
  const TempDir directory;
  const auto source = source_of(directory, patterned(100'000));
  const auto full = File::open("/dev/full", O_WRONLY, "cannot open").value();
  const auto status = kernel_copy(*source, {0, 100'000}, full);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code() == ErrorCode::kIo);
  CHECK(status.error().file() == "/dev/full");
  CHECK_THAT(status.error().message(), Catch::Matchers::EndsWith("No space left on device"));
}
