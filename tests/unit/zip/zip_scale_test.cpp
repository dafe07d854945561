// SPDX-License-Identifier: BSD-3-Clause
// Large archives: what they cost in memory and reads. The million is hidden: run it with '[.scale]'.
#include <unistd.h>

#include <fstream>
#include <string>

#include "ckpt/base/crc32.h"
#include "ckpt/zip/directory.h"
#include "ckpt/zip/entry_layout.h"
#include "ckpt/zip/records.h"
#include "support/catch.h"
#include "support/sparse_source.h"

using namespace ckpt;
using ckpt::test::SparseSource;

namespace {

enum class Headers { kWritten, kLeftOut };

/// An archive as PyTorch writes it, of `count` storages with `size` bytes of zeros each, without their data.
std::shared_ptr<SparseSource> torch_archive(std::uint64_t count, std::uint64_t size, Headers headers) {
  auto source = std::make_shared<SparseSource>();
  Bytes central;
  std::uint64_t offset = 0;
  for (std::uint64_t i = 0; i <= count; ++i) {
    const auto name = i == 0 ? std::string("archive/data.pkl") : "archive/data/" + std::to_string(i - 1);
    Bytes plain;
    append_local_header(plain, {.flags = 0x0808, .name_size = static_cast<std::uint16_t>(name.size())});
    append_text(plain, name);
    const auto record = respell_record(plain, offset, {kTorchAlignment}, size, size, 1);
    Bytes entry;
    append_central_entry(entry, {.flags = 0x0808, .name_size = static_cast<std::uint16_t>(name.size())});
    append_text(entry, name);
    append_bytes(central, respell_central_entry(entry, offset, size, size, 1));
    const auto data_end = offset + record.header.size() + size;
    if (headers == Headers::kWritten || i == 0) {  // an archive begins with a record
      source->put(offset, record.header);
      source->put(data_end, record.descriptor);
    }
    offset = data_end + record.descriptor.size();
  }
  const Extent place{offset, central.size()};
  append_bytes(central, spell_end_records(count + 1, place, true, {}));
  source->put(offset, std::move(central));
  return source;
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("five terabytes in a thousand records are read as quickly as five kilobytes", "[zip]") {
  const auto source = torch_archive(1000, 5'000'000'000, Headers::kWritten);
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source, diagnostics);
  REQUIRE(directory.ok());
  CHECK(source->size() > 5'000'000'000'000);
  for (const auto& finding : diagnostics.findings()) CHECK(finding.id + ": " + finding.message == "");
  CHECK(source->reads < 1100);  // one for each local header with the descriptor before it
  CHECK(source->bytes_read < 2'000'000);
}

TEST_CASE("more records than are looked at one by one are checked by the directory alone", "[zip]") {
  const auto source = torch_archive(5000, 1000, Headers::kLeftOut);
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source, diagnostics);
  REQUIRE(directory.ok());
  CHECK(diagnostics.findings().empty());
  CHECK(source->reads < 10);
  REQUIRE(directory->check_local_headers(diagnostics).ok());
  REQUIRE(diagnostics.findings().size() == 1);
  CHECK(diagnostics.findings()[0].id == "zip-no-local-header");
}

TEST_CASE("a record that no entry names is seen among thousands", "[zip]") {
  const auto source = std::make_shared<SparseSource>();
  Bytes central;
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const auto name = "a/" + std::to_string(i);
    const auto name_size = static_cast<std::uint16_t>(name.size());
    Bytes header;
    append_local_header(header, {.name_size = name_size});
    append_text(header, name);
    source->put(std::uint64_t{i} * 1000, header);
    if (i == 2000) continue;
    append_central_entry(
        central, {.stored_size = 900, .size = 900, .name_size = name_size, .local_header_offset = i * 1000});
    append_text(central, name);
  }
  append_bytes(central, spell_end_records(4999, {5'000'000, central.size()}, false, {}));
  source->put(5'000'000, central);
  Diagnostics diagnostics;
  REQUIRE(ZipDirectory::read(source, diagnostics).ok());
  REQUIRE(diagnostics.findings().size() == 1);
  CHECK(diagnostics.findings()[0].id == "zip-uncovered-bytes");
  CHECK(diagnostics.findings()[0].severity == Severity::kError);
  CHECK(source->reads < 20);
}

TEST_CASE("a million records cost 60 MB, and a byte of their directory is read once", "[zip][.scale]") {
  constexpr std::uint64_t kCount = 1'000'000;
  const auto source = torch_archive(kCount, 8, Headers::kLeftOut);
  const auto before = resident_bytes();
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source, diagnostics);
  const auto resident = resident_bytes() - before;
  REQUIRE(directory.ok());
  CHECK(diagnostics.findings().empty());
  CHECK(resident < 80'000'000);
  CHECK(source->bytes_read < directory->central_directory().size + 500'000);  // and what is sought at the end
  CHECK(source->reads < 1000);

  bool all = directory->find("data.pkl") == RecordId{0} && !directory->find("version");
  for (std::uint64_t i = 0; i < kCount; ++i)
    all = all && directory->find("data/" + std::to_string(i)) == i + 1;
  for (std::uint64_t i = kCount; i-- > 0;) all = all && directory->find("data/" + std::to_string(i)) == i + 1;
  CHECK(all);
}
