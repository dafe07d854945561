// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/latin1_source.h"

#include <string>

#include "support/catch.h"

using namespace ckpt;

namespace {

std::shared_ptr<const ByteSource> text(const std::string& utf8) {
  const auto view = as_bytes(utf8);
  return std::make_shared<MemorySource>("text", Bytes(view.begin(), view.end()));
}

std::string read(const ByteSource& source, std::uint64_t offset, std::size_t size) {
  Bytes bytes(size);
  const auto status = source.read_at(offset, bytes);
  return status.ok() ? std::string(as_text(bytes)) : status.error().text();
}

}  // namespace

TEST_CASE("letters up to U+00FF are the bytes", "[compute]") {
  const auto source = Latin1Source::open(text("--a\xc3\xbf\xc2\x80z"), {2, 6});
  REQUIRE(source.ok());
  CHECK((*source)->size() == 4);
  CHECK(read(**source, 0, 4) == "a\xff\x80z");
  CHECK(read(**source, 2, 2) == "\x80z");
  CHECK(read(**source, 1, 1) == "\xff");
}

TEST_CASE("a letter may lie across what is read at once", "[compute]") {
  std::string utf8 = "a";
  std::string bytes = "a";
  for (int i = 0; i < (3 << 20); ++i) {  // each letter begins at an odd place
    const auto byte = static_cast<unsigned char>(128 + i % 128);
    utf8 += static_cast<char>(0xC0U | byte >> 6U);
    utf8 += static_cast<char>(0x80U | (byte & 0x3FU));
    bytes += static_cast<char>(byte);
  }
  const auto source = Latin1Source::open(text(utf8), {0, utf8.size()});
  REQUIRE(source.ok());
  REQUIRE((*source)->size() == bytes.size());
  CHECK(read(**source, 0, bytes.size()) == bytes);
  CHECK(read(**source, 5, 1000) == bytes.substr(5, 1000));
}

TEST_CASE("other letters are an error", "[compute]") {
  CHECK_FALSE(Latin1Source::open(text("a\xc4\x80"), {0, 3}).ok());
  CHECK_FALSE(Latin1Source::open(text("a\xc3"), {0, 2}).ok());
  CHECK_FALSE(Latin1Source::open(text("a"), {0, 2}).ok());
}
