// SPDX-License-Identifier: BSD-3-Clause
// What ckpt makes of archives on which readers disagree. The rule: what all loaders read is read, what all
// refuse is refused; where they differ, what torch reads is read, and an error finding keeps the file from
// being rewritten. `tests/judge/zip_loaders.py` asks the loaders; set CKPT_WRITE_ZIP_CASES to a
// directory to get the files and their list.
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "ckpt/base/text.h"
#include "ckpt/zip/directory.h"
#include "support/catch.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

struct Case {
  std::string id;
  std::string construction;
  std::string description;  // see zip_builder.h
  std::string outcome;      // "read" with findings, or "refused" with the reason
};

const std::string kTwos = "body=\\0\\0\\0\\x40\\0\\0\\0\\x40 ";
const std::string kThrees = "body=\\0\\0\\x40\\x40\\0\\0\\x40\\x40 ";
const std::string kNotAtStart = "refused: the archive does not begin at byte 0, where torch looks for it";
const std::string kEmptyEnd = "PK\\x05\\x06\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0";

std::string many(std::size_t count, const std::string& line) {
  std::string lines;
  for (std::size_t i = 0; i < count; ++i) {
    auto one = line;
    for (auto at = one.find('#'); at != one.npos; at = one.find('#')) one.replace(at, 1, std::to_string(i));
    lines += one + ";";
  }
  return lines;
}

std::vector<Case> cases() {
  const std::string pickle = "a/data.pkl; ", rest = "a/version; a/data/0; ", base = pickle + rest;
  const std::string long_name(600, 'n');
  return {
      {"Z0", "nothing wrong", base, "read"},
      {"Z1", "two records with one name", base + "a/data/0 " + kTwos, "read, error zip-duplicate-name"},
      {"Z2", "three records with one name", base + "a/data/0 " + kTwos + "; a/data/0 " + kThrees,
       "read, error zip-duplicate-name"},
      {"Z3", "a/data.pkl and a/DATA.PKL", base + "a/DATA.PKL body=N.",
       "read, error zip-case-collision, error zip-case-differs"},
      {"Z4", "a/DATA.PKL only", "a/DATA.PKL; " + rest, "read, error zip-case-differs"},
      {"Z5a", "local name differs, same length", "a/data.pkl local-name=a/fake.pkl; " + rest,
       "read, error zip-local-name-differs"},
      {"Z5b", "local name differs, longer", "a/data.pkl local-name=a/longer.name; " + rest,
       "read, error zip-local-name-differs"},
      {"Z6a", "CRC of the pickle wrong", "a/data.pkl crc=1; " + rest, "read, error zip-crc-differs"},
      {"Z6b", "CRC of all records 0: not computed", "a/data.pkl crc=0; a/version crc=0; a/data/0 crc=0",
       "read"},
      {"Z7", "CRC wrong in the local header only", "a/data.pkl local-crc=1; " + rest, "read"},
      {"Z8a", "pickle flagged as encrypted", "a/data.pkl flags=0x801; " + rest,
       "refused: the record is encrypted (flags 0x0801)"},
      {"Z8b", "pickle flagged as a patch", "a/data.pkl flags=0x820; " + rest,
       "refused: the record is encrypted (flags 0x0820)"},
      {"Z8c", "pickle flagged as strongly encrypted", "a/data.pkl flags=0x840; " + rest,
       "refused: the record is encrypted (flags 0x0840)"},
      {"Z9", "a decoy flagged as encrypted", base + "a/config.pkl flags=0x801",
       "read, error zip-encrypted-flag"},
      {"Z10", "encryption flags in the local header only", "a/data.pkl local-flags=0x861; " + rest, "read"},
      {"Z11", "masked headers flag on a decoy", base + "a/x flags=0x2800",
       "refused: 'a/x' hides its headers (flag 0x2000), which torch refuses"},
      {"Z12a", "pickle with method 99", "a/data.pkl method=99 local-method=99; " + rest,
       "refused: compression method 99 is not supported"},
      {"Z12b", "a decoy with method 99", base + "a/x method=99 local-method=99",
       "read, error zip-unsupported-method"},
      {"Z13a", "method and sizes wrong in the local header only",
       "a/data.pkl local-method=8 local-size=5 local-stored=7; " + rest,
       "read, warning zip-local-sizes-differ"},
      {"Z13b", "sizes in a data descriptor",
       "a/data.pkl descriptor=16; a/version descriptor=16; a/data/0 descriptor=16", "read"},
      {"Z14", "partial zip64 field, 64-bit descriptor",
       "a/data.pkl descriptor=24 local-extra=\\x01\\0\\x08\\0\\xa2\\0\\0\\0\\0\\0\\0\\0; " + rest, "read"},
      {"Z15", "bytes in front, offsets adjusted", "before junkjunk; " + base, kNotAtStart},
      {"Z16", "bytes in front, offsets not adjusted", "before-all junkjunk; " + base, kNotAtStart},
      {"Z17a", "1000 bytes behind the end", base + "after " + std::string(1000, 'j'),
       "read, warning zip-trailing-junk"},
      {"Z17b", "66000 bytes behind the end", base + "a/x zeros=10000; after " + std::string(66000, 'j'),
       "read, error zip-trailing-junk"},
      {"Z17c", "100000 bytes behind the end", base + "after " + std::string(100000, 'j'),
       "refused: zip archive is cut short: its central directory is missing"},
      {"Z18a", "two equal archives one behind the other", base + "twice",
       "read, error zip-directory-moved, error zip-fake-end-record"},
      {"Z18b", "an archive behind another", base + "before-all " + std::string(300, 'x'), kNotAtStart},
      {"Z19a", "an empty end record in the comment", base + "comment " + kEmptyEnd,
       "refused: zip archive has no records"},
      {"Z19b", "a signature of an end record in the comment", base + "comment PK\\x05\\x06",
       "read, error zip-fake-end-record"},
      {"Z20", "end record: directory of 0 bytes", base + "end central-size=0",
       "refused: central directory of 0 bytes is too small for the 3 entries announced"},
      {"Z21", "end record: fewer entries", base + "end entries=2",
       "read, error zip-entry-count-differs, error zip-uncovered-bytes"},
      {"Z22", "end record: no entries", base + "end entries=0",
       "refused: end record announces no records, but a central directory of 165 bytes"},
      {"Z23a", "zip64 end record contradicts the end record", base + "zip64; end entries=2",
       "read, error zip-zip64-differs"},
      {"Z23b", "zip64 locator points outside", base + "zip64; locator at=99999",
       "refused: zip64 locator points to byte 99999, but the file has 552 bytes"},
      {"Z23c", "zip64 locator points to something else", base + "zip64; locator at=0",
       "read, error zip-zip64-differs, error zip-directory-moved"},
      {"Z23d", "zip64 field of a decoy too short",
       base + "a/x size=0xffffffff stored=0xffffffff extra=\\x01\\0\\x04\\0\\0\\0\\0\\0",
       "read, error zip-extra-field, error zip-overlap, warning zip-local-sizes-differ"},
      {"Z23e", "zip64 field of a decoy too long for the extra field",
       base + "a/x size=0xffffffff stored=0xffffffff extra=\\x01\\0\\x20\\0\\0\\0\\0\\0",
       "refused: 'a/x' has an extra field with a wrong length"},
      {"Z23f", "a broken extra field that nobody needs", base + "a/x extra=\\x07\\0\\x20\\0\\0\\0\\0\\0",
       "read, error zip-extra-field"},
      {"Z24", "first record in another folder", "b/x; " + base, "refused: no record 'data.pkl'"},
      {"Z25", "records in no folder", "data.pkl; version; data/0", "read, error zip-no-root"},
      {"Z26", "NUL inside a name", "a/data.pkl\\0.txt; " + rest, "refused: no record 'data.pkl'"},
      {"Z27", "name of 602 bytes", base + "a/" + long_name, "read, warning zip-long-name"},
      {"Z28a", "two entries share a local header", base + "a/data/1 written=0 like=2",
       "read, error zip-overlap, error zip-local-name-differs"},
      {"Z28b", "a body reaches into the next record",
       pickle + "a/data/0 size=50 stored=50 local-size=50 local-stored=50; a/version; a/x",
       "read, error zip-overlap"},
      {"Z29a", "a name that climbs out", base + "a/../x", "read, warning zip-unsafe-name"},
      {"Z29b", "a name with a backslash", base + "a/sub\\\\x", "read, warning zip-unsafe-name"},
      {"Z29c", "an absolute name", base + "/etc/x", "read, error zip-outside-root, warning zip-unsafe-name"},
      {"Z30a", "a record without an entry, in between", pickle + "a/hidden listed=0; " + rest,
       "read, error zip-uncovered-bytes"},
      {"Z30b", "a record without an entry, at the end", base + "a/hidden listed=0",
       "read, error zip-uncovered-bytes"},
      {"Z30c", "200 bytes of something between records",
       pickle + "a/version gap=" + std::string(200, 'x') + "; a/data/0", "read, warning zip-uncovered-bytes"},
      {"Z31a", "sizes shrunk in the directory", pickle + "a/version; a/data/0 size=4 stored=4",
       "read, error zip-record-cut, warning zip-local-sizes-differ"},
      {"Z31b", "sizes shrunk in the directory, descriptors",
       pickle + "a/version; a/data/0 size=4 stored=4 descriptor=16", "read, error zip-record-cut"},
      {"Z32", "stored, but two different sizes", pickle + "a/version; a/data/0 size=4",
       "refused: 'a/data/0' is stored, but its sizes are 4 and 8 bytes"},
      {"Z33", "two version records", base + "a/.data/version", "read"},
      {"Z34", "PK 7 8 at the start", "before PK\\x07\\x08; " + base, kNotAtStart},
      {"Z35a", "deflated records", "a/data.pkl deflate=1; a/version deflate=1; a/data/0", "read"},
      {"Z35b", "a deflated pickle that claims 2 GB", "a/data.pkl deflate=1 size=0x7fffffff; " + rest,
       "refused: the record has 2,147,483,647 bytes, more than the 1,000,000 allowed here"},
      {"Z36", "no local header where a storage points", pickle + "a/version; a/data/0 offset=7",
       "refused: no local header at byte 7 of the archive"},
      {"Z37", "byteorder is junk", base + "a/byteorder body=junk", "read"},
      {"Z38a", "disk numbers of a split archive", base + "end disk=2 central-disk=2",
       "refused: zip archive is split: disk 2 of a set, 3 of 3 entries on it, directory on disk 2"},
      {"Z38b", "an entry on another disk", base + "a/x disk=5",
       "refused: 'a/x' lies on disk 5 of a split archive"},
      {"Z39", "an archive inside", base + "a/inner.zip body=" + kEmptyEnd, "read"},
      {"X6", "300 entries share 100 kB",
       base + "a/kernel zeros=100000;" + many(300, "a/copy# written=0 like=3"),
       "read, error zip-overlap, error zip-local-name-differs"},
      {"X7a", "65535 empty records", base + many(65532, "a/e# body="), "read"},
      {"X7b", "1000 equal names", base + many(1000, "a/same body="), "read, error zip-duplicate-name"},
  };
}

std::string findings_text(const Diagnostics& diagnostics) {
  std::string text;
  for (const auto& finding : diagnostics.findings())
    text += ", " + std::string(severity_name(finding.severity)) + " " + finding.id;
  return text;
}

/// What inspect does with a torch archive, as far as the container goes.
Status look(const ZipDirectory& directory, Diagnostics& diagnostics) {
  const auto pickle = directory.find("data.pkl");
  if (!pickle) return Error(ErrorCode::kNotFound, "no record 'data.pkl'");
  CKPT_RETURN_IF_ERROR(read_record(directory, *pickle, 1'000'000, diagnostics));
  if (const auto version = directory.find("version")) {
    CKPT_RETURN_IF_ERROR(read_record(directory, *version, 100, diagnostics));
  }
  if (const auto storage = directory.find("data/0")) CKPT_RETURN_IF_ERROR(directory.locate(*storage));
  return {};
}

std::string outcome_of(const Bytes& bytes, std::string* detail = nullptr) {
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(zip_source(bytes), diagnostics);
  if (!directory) return "refused: " + directory.error().message();
  const auto status = look(*directory, diagnostics);
  if (!status.ok()) return "refused: " + status.error().message();
  if (detail) {
    for (const auto& finding : diagnostics.findings())
      *detail += (detail->empty() ? "" : "; ") + finding.message;
  }
  return "read" + findings_text(diagnostics);
}

}  // namespace

TEST_CASE("hostile archives are read, reported or refused as the table says", "[zip]") {
  for (const auto& example : cases()) {
    INFO(example.id << ": " << example.construction);
    CHECK(outcome_of(build_zip(example.description)) == example.outcome);
  }
}

TEST_CASE("the hostile archives can be shown to other loaders", "[zip]") {
  const char* directory = std::getenv("CKPT_WRITE_ZIP_CASES");
  if (directory == nullptr) return;
  std::ofstream list(std::string(directory) + "/cases.tsv");
  for (const auto& example : cases()) {
    const auto bytes = build_zip(example.description);
    std::ofstream file(std::string(directory) + "/" + example.id + ".pt", std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    std::string detail;
    const auto outcome = outcome_of(bytes, &detail);
    list << example.id << '\t' << example.construction << '\t' << outcome << '\t' << printable(detail)
         << '\n';
  }
}
