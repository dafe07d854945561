// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/directory.h"

#include <fstream>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

const std::string kBase = "a/data.pkl; a/version; a/data/0";

ZipDirectory must_read(std::shared_ptr<const ByteSource> source, Diagnostics& diagnostics) {
  auto directory = ZipDirectory::read(std::move(source), diagnostics);
  if (!directory) FAIL(directory.error().text());
  return std::move(directory).value();
}

ZipDirectory read_cleanly(std::shared_ptr<const ByteSource> source) {
  Diagnostics diagnostics;
  auto directory = must_read(std::move(source), diagnostics);
  for (const auto& finding : diagnostics.findings()) CHECK(finding.id + ": " + finding.message == "");
  return directory;
}

Error error_of(Bytes bytes) {
  Diagnostics diagnostics;
  auto directory = ZipDirectory::read(zip_source(std::move(bytes)), diagnostics);
  REQUIRE_FALSE(directory.ok());
  return directory.error();
}

std::string findings_of(std::string_view description) {
  Diagnostics diagnostics;
  must_read(zip_source(description), diagnostics);
  std::string ids;
  for (const auto& finding : diagnostics.findings()) ids += (ids.empty() ? "" : " ") + finding.id;
  return ids;
}

std::string text_of(const ZipDirectory& directory, std::string_view name) {
  const auto record = directory.find(name);
  if (!record) return "not found";
  const auto bytes = read_record(directory, *record, 1'000'000);
  return bytes ? std::string(as_text(*bytes)) : bytes.error().text();
}

RecordId torch_finds(std::string_view description, std::string_view name) {
  Diagnostics diagnostics;
  return must_read(zip_source(description), diagnostics).find(name).value_or(9999);
}

}  // namespace

TEST_CASE("a small archive is read", "[zip]") {
  const auto directory = read_cleanly(zip_source(kBase + "; comment hello"));
  REQUIRE(directory.entries().size() == 3);
  CHECK(directory.has_root());
  CHECK(directory.root() == "a");
  CHECK(directory.full_name(2) == "a/data/0");
  CHECK(directory.name(2) == "data/0");
  CHECK(text_of(directory, "version") == "3\n");
  CHECK(text_of(directory, "missing") == "not found");
  CHECK(directory.comment().size == 5);
  CHECK_FALSE(directory.has_zip64_end());
  CHECK(directory.end_records().end() == directory.source().size());
}

TEST_CASE("records are located by their local headers", "[zip]") {
  const auto directory =
      read_cleanly(zip_source("a/x body=12345 descriptor=16 local-extra=FB\\x03\\0ZZZ; a/y body=; a/z"));
  const auto x = directory.locate(0);
  REQUIRE(x.ok());
  CHECK(x->header == Extent{0, 30 + 3 + 7});
  CHECK(x->data == Extent{40, 5});
  CHECK(x->descriptor == Extent{45, 16});
  CHECK(x->whole() == Extent{0, 61});
  CHECK(x->same_name);
  const auto y = directory.locate(1);
  REQUIRE(y.ok());
  CHECK(y->data == Extent{94, 0});
  CHECK(y->descriptor == Extent{94, 0});
}

TEST_CASE("descriptors are recognised in every spelling", "[zip]") {
  for (const auto* width : {"16", "24"}) {
    const auto directory = read_cleanly(zip_source(std::string("a/x descriptor=") + width + "; a/y"));
    CHECK(directory.locate(0)->descriptor.size == std::stoull(width));
  }
  const auto plain = read_cleanly(
      zip_source("a/x body=abc flags=0x808; a/y gap=\\xc2\\x41\\x24\\x35\\x03\\0\\0\\0\\x03\\0\\0\\0"));
  CHECK(plain.locate(0)->descriptor.size == 12);
}

TEST_CASE("names are found as torch finds them", "[zip]") {
  const auto directory =
      read_cleanly(zip_source("Root/data.pkl; Root/Extra; Root/data/10; Root/data/2; Root/data/1"));
  CHECK(directory.find("data.pkl") == RecordId{0});
  CHECK(directory.find("DATA.PKL") == RecordId{0});
  CHECK(directory.find("extra") == RecordId{1});
  CHECK(directory.find("data/10") == RecordId{2});
  CHECK(directory.find("data/2") == RecordId{3});
  CHECK(directory.find("data/1") == RecordId{4});
  CHECK(directory.find("data/10") == RecordId{2});
  CHECK(directory.find("DATA/2") == RecordId{3});
  CHECK_FALSE(directory.find("data/3"));
  CHECK_FALSE(directory.find(""));
}

// The answers are those of torch 1.13 and 2.15; see docs/testing-zip-loaders.md.
TEST_CASE("of equal names the one is found that torch reads", "[zip]") {
  CHECK(torch_finds(kBase + "; a/data/0", "data/0") == 2);
  CHECK(torch_finds(kBase + "; a/data/0; a/data/0", "data/0") == 3);
  CHECK(torch_finds(kBase + "; a/DATA.PKL body=N.", "data.pkl") == 3);
}

TEST_CASE("a record read strictly or as torch does differ in the CRC only", "[zip]") {
  Diagnostics diagnostics;
  const auto directory = must_read(zip_source("a/x body=abc crc=1; a/y"), diagnostics);
  CHECK(diagnostics.findings().empty());
  const auto strict = read_record(directory, 0, 100);
  REQUIRE_FALSE(strict.ok());
  CHECK(strict.error().text() ==
        "test.pt: record 'x': the record's CRC-32 is 0x352441c2, the directory says 0x00000001");
  CHECK(as_text(*read_record(directory, 0, 100, diagnostics)) == "abc");
  REQUIRE(diagnostics.findings().size() == 1);
  CHECK(diagnostics.findings()[0].id == "zip-crc-differs");
}

TEST_CASE("records larger than allowed, damaged or of a lying size are refused", "[zip]") {
  const auto refusal = [](std::string_view description, std::uint64_t limit) {
    Diagnostics diagnostics;
    const auto bytes = read_record(must_read(zip_source(description), diagnostics), 0, limit);
    REQUIRE_FALSE(bytes.ok());
    return bytes.error().text();
  };
  CHECK(refusal("a/x zeros=1001", 1000) ==
        "test.pt: record 'x': the record has 1,001 bytes, more than the 1,000 allowed here");
  CHECK(refusal("a/x zeros=50000 deflate=1 size=49999", 100000) ==
        "test.pt: record 'x': deflated data holds more than the 49999 bytes announced");
  CHECK(refusal("a/x zeros=50000 deflate=1 size=50001", 100000) ==
        "test.pt: record 'x': deflated data holds 50000 bytes, 50001 announced");
  CHECK(refusal("a/x body=\\xff\\xff\\xff method=8 size=9", 1000) ==
        "test.pt: record 'x': deflated data is damaged");
  CHECK(refusal("a/x body=abc method=8 size=999999", 1'000'000) ==
        "test.pt: record 'x': 3 deflated bytes can't become 999999");
}

TEST_CASE("a file cut short says how much is missing", "[zip]") {
  const auto cut = [](std::string_view description, std::size_t bytes_left_off) {
    auto bytes = build_zip(description);
    bytes.resize(bytes.size() - bytes_left_off);
    return error_of(std::move(bytes));
  };
  CHECK(cut(kBase, 1).text() == "test.pt: zip archive is cut short: 1 byte missing");
  CHECK(cut(kBase, 18).text() == "test.pt: zip archive is cut short: 18 bytes missing");
  CHECK(cut(kBase + "; zip64", 30).text() == "test.pt: zip archive is cut short: 30 bytes missing");
  CHECK(cut(kBase + "; zip64", 90).text() == "test.pt: zip archive is cut short: 90 bytes missing");
  CHECK(cut(kBase, 60).text() == "test.pt: zip archive is cut short: its central directory is missing");
  const auto size = build_zip("a/x zeros=1000").size();
  CHECK(cut("a/x zeros=1000", size - 533).text() ==
        "test.pt: zip archive is cut short: at least 500 bytes missing");
  CHECK(cut(kBase, 60).hint() == "the download or copy was interrupted");
  CHECK(error_of(Bytes(1000)).text() == "test.pt: not a zip archive: no end record in its last 64 KiB");
  CHECK(error_of({}).text() == "test.pt: not a zip archive: no end record in its last 64 KiB");
}

TEST_CASE("padding and gaps of zeros are no findings", "[zip]") {
  CHECK(findings_of("a/x; a/y gap=\\0\\0\\0\\0\\0\\0\\0; a/z descriptor=24") == "");
  CHECK(findings_of("a/x descriptor=16; a/y gap=\\0\\0\\0\\0\\0; a/z") == "");
  CHECK(findings_of("a/; a/data/; a/data.pkl; a/data/0 body=") == "");
  CHECK(findings_of("a/x body= flags=0x808; a/y") == "");
}

TEST_CASE("names that readers decode differently are reported", "[zip]") {
  CHECK(findings_of("a/x\\xc3\\xa9") == "");
  CHECK(findings_of("a/x\\xc3\\xa9 flags=0") == "zip-name-unmarked");
  CHECK(findings_of("a/x\\xc3") == "zip-name-encoding");
  CHECK(findings_of("a/x\\xc3\\xa9 local-flags=0") == "zip-local-name-differs");
  CHECK(findings_of("../x; ../y") == "zip-unsafe-name");
  CHECK(findings_of("a/x needs=64") == "zip-version-needed");
  CHECK(findings_of("a/x; A/y") == "zip-outside-root");
  CHECK(findings_of("a/x; A/x") == "zip-case-collision zip-outside-root");
}

TEST_CASE("equal names are seen in any order of names", "[zip]") {
  CHECK(findings_of("a/data/0; a/data/1; a/data/2; a/data/10; a/data.pkl") == "");
  CHECK(findings_of("a/data/0; a/data/1; a/data/10; a/data/2; a/data.pkl") == "");
  CHECK(findings_of("a/data/2; a/data/1; a/data/0") == "");
  CHECK(findings_of("a/data/0; a/data/1; a/data/1") == "zip-duplicate-name");
  CHECK(findings_of("a/data/1; a/data/0; a/data/1") == "zip-duplicate-name");
  CHECK(findings_of("a/data/x; a/data/X") == "zip-case-collision");
  CHECK(findings_of("a/data/0; a/Data/0") == "zip-case-collision zip-case-differs");
  CHECK(findings_of("a/x; a/data/0; a/x; a/x") == "zip-duplicate-name");
}

TEST_CASE("a second end record that could be meant is reported", "[zip]") {
  // The comment is an end record that leads to the same directory: the last signature is used.
  const auto plain = build_zip(kBase);
  const auto fields = std::string("PK\\x05\\x06");
  std::string fake = fields;
  for (std::size_t i = plain.size() - 18; i < plain.size(); ++i) {
    fake += "\\x";
    fake += "0123456789abcdef"[static_cast<unsigned>(plain[i]) >> 4];
    fake += "0123456789abcdef"[static_cast<unsigned>(plain[i]) & 15];
  }
  CHECK(findings_of(kBase + "; comment " + fake) == "zip-directory-moved zip-fake-end-record");
}

TEST_CASE("every byte of an archive may be missing or wrong without harm", "[zip]") {
  const auto whole = build_zip(
      "a/data.pkl descriptor=16 local-extra=FB\\x01\\0Z; a/version deflate=1; a/data/0 extra=\\x01\\0\\0\\0; "
      "zip64");
  const auto survive = [](Bytes bytes) {
    Diagnostics diagnostics;
    const auto directory = ZipDirectory::read(zip_source(std::move(bytes)), diagnostics);
    if (!directory) return;
    for (RecordId record = 0; record < directory->entries().size(); ++record) {
      static_cast<void>(read_record(*directory, record, 100'000, diagnostics).ok());
      static_cast<void>(directory->find(directory->name(record)));
    }
  };
  for (std::size_t size = 0; size < whole.size(); ++size)
    survive(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7F, 0x80, 0xFF}) {
      auto bytes = whole;
      bytes[at] = static_cast<std::byte>(value);
      survive(std::move(bytes));
    }
  }
}
