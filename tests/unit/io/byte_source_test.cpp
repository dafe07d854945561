// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/byte_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.h"
#include "support/descriptors.h"
#include "support/temp_dir.h"

using namespace ckpt;
using ckpt::test::FilledPipe;
using ckpt::test::PseudoTerminal;
using ckpt::test::Redirected;
using ckpt::test::TempDir;

namespace {

constexpr auto kHuge = std::numeric_limits<std::uint64_t>::max();

MemorySource memory(std::string_view text) {
  Bytes bytes;
  append_text(bytes, text);
  return {"memory", std::move(bytes)};
}

std::string text_of(const ByteSource& source, Extent extent) {
  auto bytes = source.read(extent);
  return bytes.ok() ? std::string(as_text(*bytes)) : "error: " + bytes.error().text();
}

std::string contents(const ByteSource& source) {
  return text_of(source, {0, source.size()});
}

}  // namespace

TEST_CASE("a source gives the bytes of an extent", "[io]") {
  const auto source = memory("0123456789");
  CHECK(text_of(source, {0, 10}) == "0123456789");
  CHECK(text_of(source, {3, 4}) == "3456");
  CHECK(text_of(source, {10, 0}).empty());
}

TEST_CASE("a range past the end is an error with the numbers, not an allocation", "[io]") {
  const auto source = memory("0123456789");
  CHECK(text_of(source, {8, 3}) == "error: memory: needs 3 bytes at byte 8 but the file ends at byte 10");
  CHECK_FALSE(source.read({11, 0}).ok());
  CHECK_FALSE(source.read({0, kHuge}).ok());
  CHECK_FALSE(source.read({kHuge, 1}).ok());
  CHECK_FALSE(source.read({2, kHuge}).ok());
  CHECK(source.read({kHuge, kHuge}).error().code() == ErrorCode::kCorrupt);
}

TEST_CASE("a file source has the path as its name and a descriptor", "[io]") {
  const TempDir directory;
  const auto path = directory.write("model.pt", "tensor bytes");
  const auto source = open_file_source(path);
  REQUIRE(source.ok());
  CHECK((*source)->name() == path);
  CHECK((*source)->size() == 12);
  CHECK((*source)->descriptor() >= 0);
  CHECK(contents(**source) == "tensor bytes");
  CHECK_FALSE((*source)->read({12, 1}).ok());
}

TEST_CASE("a file that cannot be opened says why", "[io]") {
  const TempDir directory;
  const auto missing = open_file_source(directory.path("none.pt"));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().code() == ErrorCode::kNotFound);
  CHECK(missing.error().message() == "cannot open for reading: No such file or directory");
  CHECK(missing.error().file() == directory.path("none.pt"));

  const auto file = directory.write("file", "");
  CHECK(open_file_source(file + "/below").error().code() == ErrorCode::kIo);
  CHECK(open_file_source("").error().code() == ErrorCode::kNotFound);
}

TEST_CASE("a directory is no source", "[io]") {
  const TempDir directory;
  const auto source = open_file_source(directory.path());
  REQUIRE_FALSE(source.ok());
  CHECK(source.error().code() == ErrorCode::kUnsupported);
  CHECK(source.error().text() == directory.path() + ": is a directory");
}

TEST_CASE("what is appended after opening is not seen", "[io]") {
  const TempDir directory;
  const auto path = directory.write("log", "first");
  const auto source = open_file_source(path);
  directory.write("log", "first and second");
  CHECK((*source)->size() == 5);
  CHECK(contents(**source) == "first");
  CHECK_FALSE((*source)->read({5, 1}).ok());
}

TEST_CASE("a file that shrinks under the reader is an error, not a signal", "[io]") {
  const TempDir directory;
  const auto path = directory.write("model.pt", std::string(10'000, 'x'));
  const auto source = open_file_source(path);
  REQUIRE(::truncate(path.c_str(), 6000) == 0);
  CHECK((*source)->read({0, 6000}).ok());
  const auto read = (*source)->read({5000, 5000});
  REQUIRE_FALSE(read.ok());
  CHECK(read.error().code() == ErrorCode::kCorrupt);
  CHECK(read.error().message() == "file is shorter than when it was opened: byte 6000 of 10000 is gone");
}

TEST_CASE("an open source outlives its path", "[io]") {
  const TempDir directory;
  const auto path = directory.write("model.pt", "old");
  const auto source = open_file_source(path);
  std::filesystem::rename(directory.write("new.pt", "new"), path);
  CHECK(contents(**source) == "old");
}

TEST_CASE("a sparse terabyte is read where it is asked for", "[io]") {
  const TempDir directory;
  const auto path = directory.write("sparse", "head");
  if (::truncate(path.c_str(), off_t{1} << 40) != 0) return;  // a file system with smaller limits
  const auto source = open_file_source(path);
  CHECK((*source)->size() == std::uint64_t{1} << 40);
  CHECK(text_of(**source, {(std::uint64_t{1} << 40) - 3, 3}) == std::string(3, '\0'));
}

TEST_CASE("a FIFO is spooled and leaves nothing behind", "[io]") {
  const TempDir directory;
  const auto path = directory.path("fifo");
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const std::string sent(300'000, 'f');
  std::thread writer([&] { directory.write("fifo", sent); });
  const auto source = open_file_source(path);
  writer.join();
  REQUIRE(source.ok());
  CHECK((*source)->name() == path);
  CHECK((*source)->descriptor() >= 0);
  CHECK(contents(**source) == sent);
  CHECK(directory.names() == std::vector<std::string>{"fifo"});
}

TEST_CASE("a terminal is no source", "[io]") {
  const PseudoTerminal terminal;
  if (terminal.path().empty()) return;
  CHECK(open_file_source(terminal.path()).error().code() == ErrorCode::kRefused);
}

TEST_CASE("an empty device is an empty source", "[io]") {
  const auto source = open_file_source("/dev/null");
  REQUIRE(source.ok());
  CHECK((*source)->size() == 0);
}

TEST_CASE("standard input from a file is read where it lies", "[io]") {
  const TempDir directory;
  const auto file = std::fopen(directory.write("model.pt", "seekable").c_str(), "rb");
  const Redirected redirected(STDIN_FILENO, ::fileno(file));
  const auto source = open_standard_input("/nonexistent");
  REQUIRE(source.ok());
  CHECK((*source)->name() == "standard input");
  CHECK(contents(**source) == "seekable");

  struct stat original {};

  struct stat opened {};

  ::fstat(::fileno(file), &original);
  ::fstat((*source)->descriptor(), &opened);
  CHECK(original.st_ino == opened.st_ino);
  std::fclose(file);
}

TEST_CASE("standard input begins where the program before us stopped", "[io]") {
  const TempDir directory;
  const auto file = std::fopen(directory.write("both", "header|body").c_str(), "rb");
  ::lseek(::fileno(file), 7, SEEK_SET);
  const Redirected redirected(STDIN_FILENO, ::fileno(file));
  const auto source = open_standard_input(directory.path());
  REQUIRE(source.ok());
  CHECK(contents(**source) == "body");
  std::fclose(file);
}

TEST_CASE("a piped standard input is spooled without a trace", "[io]") {
  const TempDir directory;
  const std::string sent(3'000'000, 'p');
  const FilledPipe pipe(sent);
  const Redirected redirected(STDIN_FILENO, pipe.output());
  const auto source = open_standard_input(directory.path());
  REQUIRE(source.ok());
  CHECK((*source)->name() == "standard input");
  CHECK((*source)->size() == sent.size());
  CHECK(text_of(**source, {2'999'990, 10}) == "pppppppppp");
  CHECK(directory.names().empty());

  struct stat spooled {};

  ::fstat((*source)->descriptor(), &spooled);
  CHECK(spooled.st_nlink == 0);
  CHECK((spooled.st_mode & 0666U) != 0600);  // an output that takes its mode from here is not private
}

TEST_CASE("a spool directory that cannot be used is passed over", "[io]") {
  const FilledPipe pipe("short");
  const Redirected redirected(STDIN_FILENO, pipe.output());
  const auto source = open_standard_input("/nonexistent/directory");
  REQUIRE(source.ok());
  CHECK(contents(**source) == "short");
}
