// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/io/whole_file.h"

#include <string>

#include "support/catch.h"
#include "support/descriptors.h"
#include "support/temp_dir.h"

namespace ckpt::test {
namespace {

TEST_CASE("a file is read whole, up to a limit", "[io]") {
  const TempDir dir;
  dir.write("file", "hello");
  dir.write("empty", "");
  CHECK(read_whole_file(dir.path() + "/file", 5).value() == "hello");
  CHECK(read_whole_file(dir.path() + "/empty", 0).value() == "");
  const auto large = read_whole_file(dir.path() + "/file", 4);
  REQUIRE_FALSE(large.ok());
  CHECK(large.error().code() == ErrorCode::kUnsupported);
  CHECK(large.error().text().ends_with("/file: more than 4 bytes, the most that are read"));
  CHECK(read_whole_file(dir.path() + "/none", 4).error().code() == ErrorCode::kNotFound);
  CHECK(read_whole_file(dir.path(), 4).error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("an endless stream is given up at the limit", "[io]") {
  const auto endless = read_whole_file("/dev/zero", 10'000'000);
  REQUIRE_FALSE(endless.ok());
  CHECK(endless.error().text() == "/dev/zero: more than 10000000 bytes, the most that are read");
}

TEST_CASE("standard input is read whole, through a pipe too", "[io]") {
  const std::string sent(3'000'000, 'x');
  const FilledPipe pipe(sent);
  const Redirected standard_input(0, pipe.output());
  CHECK(read_whole_file("-", sent.size()).value() == sent);
}

}  // namespace
}  // namespace ckpt::test
