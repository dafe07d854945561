// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/zip/entry_layout.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "ckpt/base/crc32.h"
#include "ckpt/zip/directory.h"
#include "ckpt/zip/inflate.h"
#include "ckpt/zip/records.h"
#include "support/catch.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

constexpr std::uint64_t k4GiB = 0x100000000;

Bytes file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

Bytes slice(const Bytes& bytes, Extent extent) {
  const auto view = ByteView(bytes).subspan(extent.offset, extent.size);
  return Bytes(view.begin(), view.end());
}

/// A local header of PyTorch's kind with `extra`.
Bytes header(std::string_view extra, std::uint16_t flags = 0x0808, std::uint32_t size = 0) {
  Bytes bytes;
  append_local_header(bytes, {.flags = flags,
                              .stored_size = size,
                              .size = size,
                              .name_size = 3,
                              .extra_size = static_cast<std::uint16_t>(extra.size())});
  append_text(bytes, "a/x");
  append_text(bytes, extra);
  return bytes;
}

std::string extra_of(ByteView header) {
  const auto fields = parse_local_header(header);
  REQUIRE(fields);
  REQUIRE(fields->whole_size() == header.size());
  return std::string(as_text(header.subspan(kLocalHeaderSize + fields->name_size)));
}

std::string wide(std::initializer_list<std::uint64_t> numbers) {
  std::string field("\1\0", 2);
  field += static_cast<char>(8 * numbers.size());
  field += '\0';
  for (const auto number : numbers) field.append(reinterpret_cast<const char*>(&number), 8);
  return field;
}

std::string padding(std::size_t size) {
  std::string field("FB");
  field += static_cast<char>(size & 255);
  field += static_cast<char>(size >> 8);
  return field + std::string(size, 'Z');
}

/// Did PyTorch write this header? It pads even where nothing is to be padded.
bool is_torch_header(const Bytes& header) {
  return extra_of(header).find("FB") != std::string::npos;
}

/// Since 2.7 a file says what its records are aligned to.
std::uint64_t alignment_of(const ZipDirectory& directory) {
  const auto record = directory.find(".storage_alignment");
  return record ? std::stoull(std::string(as_text(*read_record(directory, *record, 100)))) : kTorchAlignment;
}

/// Spells every record of `bytes` again, for the same place.
void respell_all(const Bytes& bytes) {
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(zip_source(bytes), diagnostics);
  REQUIRE(directory.ok());
  for (const auto& finding : diagnostics.findings()) CHECK(finding.id + ": " + finding.message == "");
  const auto alignment = alignment_of(*directory);
  auto central_at = directory->central_directory().offset;
  for (RecordId record = 0; record < directory->entries().size(); ++record) {
    const auto& entry = directory->entry(record);
    const auto location = directory->locate(record);
    REQUIRE(location.ok());
    const auto original = slice(bytes, location->header);
    CHECK(respell_local_header(original, location->header.offset, location->data.offset) == original);
    const auto central = slice(bytes, {central_at, entry.central_size});
    CHECK(respell_central_entry(central, entry.local_header_offset, entry.size, entry.stored_size,
                                entry.crc32) == central);
    if (is_torch_header(original)) {
      const auto spelled = respell_record(original, location->header.offset, {alignment}, entry.size,
                                          entry.stored_size, entry.crc32);
      CHECK(spelled.header == original);
      CHECK(spelled.descriptor == slice(bytes, location->descriptor));
    }
    central_at += entry.central_size;
  }
  CHECK(central_at == directory->central_directory().end());
  CHECK(spell_end_records(directory->entries().size(), directory->central_directory(),
                          directory->has_zip64_end(),
                          slice(bytes, directory->comment())) == slice(bytes, directory->end_records()));
}

}  // namespace

TEST_CASE("archives of real writers are spelled again byte for byte, without a finding", "[zip]") {
  int archives = 0;
  for (const auto& item : std::filesystem::directory_iterator(CKPT_TEST_DATA)) {
    const auto bytes = file_bytes(item.path());
    if (!looks_like_zip(ByteView(bytes).first(std::min<std::size_t>(bytes.size(), 4)))) continue;
    INFO(item.path().filename().string());
    respell_all(bytes);
    ++archives;
  }
  CHECK(archives > 0);
}

TEST_CASE("a moved header keeps its fields and gets padding to the new place", "[zip]") {
  const auto original =
      header(std::string("\x07\x01\x02\0ab", 6) + padding(14) + std::string("\x08\x01\0\0", 4));
  CHECK(smallest_local_header(original) == 30 + 3 + 6 + 4);
  const auto moved = respell_local_header(original, 1000, 1000 + 43 + 30);
  REQUIRE(moved);
  CHECK(moved->size() == 73);
  CHECK(extra_of(*moved) ==
        std::string("\x07\x01\x02\0ab", 6) + padding(26) + std::string("\x08\x01\0\0", 4));
}

TEST_CASE("a gap that no padding field fills is declined", "[zip]") {
  const auto original = header(padding(3));
  for (const std::uint64_t gap : {0u, 4u, 5u, 67u, 65535u})
    CHECK(respell_local_header(original, 0, 33 + gap)->size() == 33 + gap);
  for (const std::uint64_t gap : {1u, 2u, 3u, 65536u})
    CHECK_FALSE(respell_local_header(original, 0, 33 + gap));
  CHECK_FALSE(respell_local_header(original, 0, 32));
  CHECK_FALSE(respell_local_header(original, 100, 50));
}

TEST_CASE("a header's own offset in its zip64 field moves with it", "[zip]") {
  const auto extra_after_move = [](const std::string& extra, std::uint32_t size = 0) {
    const auto original = header(extra, 0x0808, size);
    return extra_of(*respell_local_header(original, k4GiB + 64, k4GiB + 64 + original.size()));
  };
  CHECK(extra_after_move(wide({k4GiB + 7})) == wide({k4GiB + 64}));
  CHECK(extra_after_move(wide({k4GiB + 9, 0, k4GiB + 7})) == wide({k4GiB + 9, 0, k4GiB + 64}));
  CHECK(extra_after_move(wide({k4GiB + 9, 0})) == wide({k4GiB + 9, 0}));
  CHECK(extra_after_move(wide({162})) == wide({162}));
  CHECK(extra_after_move(wide({k4GiB + 9}), 0xFFFFFFFF) == wide({k4GiB + 9}));
}

TEST_CASE("a record is spelled as PyTorch would", "[zip]") {
  const auto small = respell_record(header(padding(0)), 100, {64}, 10, 10, 0xABCD);
  CHECK(extra_of(small.header) == padding(55));
  CHECK((100 + small.header.size()) % 64 == 0);
  CHECK(parse_descriptor(small.descriptor, false)->crc32 == 0xABCD);
  CHECK(small.descriptor.size() == kDescriptorSize);

  const auto huge = respell_record(header(padding(0)), 0, {64}, k4GiB + 5, k4GiB + 5, 1);
  CHECK(extra_of(huge.header) == wide({k4GiB + 5, 0}) + padding(64 - 30 - 3 - 20 - 4));
  CHECK(parse_descriptor(huge.descriptor, true)->size == k4GiB + 5);

  const auto far = respell_record(header(padding(0)), k4GiB, {64}, 10, 10, 1);
  CHECK(extra_of(far.header) == wide({k4GiB}) + padding(64 - 30 - 3 - 12 - 4));
  CHECK(far.descriptor.size() == kZip64DescriptorSize);

  const auto both = respell_record(header(padding(0)), k4GiB, {64}, k4GiB, k4GiB, 1);
  CHECK(extra_of(both.header).starts_with(wide({k4GiB, 0, k4GiB})));
}

TEST_CASE("a record without a descriptor has its numbers in the header", "[zip]") {
  const auto record = respell_record(header("", 0x0800), 0, {64}, 10, 8, 0xABCD);
  const auto fields = *parse_local_header(record.header);
  CHECK(fields.size == 10);
  CHECK(fields.stored_size == 8);
  CHECK(fields.crc32 == 0xABCD);
  CHECK(record.descriptor.empty());
  const auto huge = respell_record(header("", 0x0800), 0, {64}, k4GiB, 5, 1);
  CHECK(parse_local_header(huge.header)->stored_size == kSaturated32);
  CHECK(extra_of(huge.header).starts_with(wide({k4GiB, 5})));
}

TEST_CASE("a central entry gets zip64 numbers only where they are needed", "[zip]") {
  Bytes original;
  append_central_entry(original,
                       {.flags = 0x808, .size = 5, .name_size = 3, .extra_size = 6, .comment_size = 2});
  append_text(original, std::string("a/x\x07\x01\x02\0abhi", 11));
  const auto far = respell_central_entry(original, k4GiB + 64, 6, 6, 7);
  const auto fields = *parse_central_entry(far);
  CHECK(fields.local_header_offset == kSaturated32);
  CHECK(fields.size == 6);
  CHECK(fields.crc32 == 7);
  CHECK(as_text(far).substr(kCentralEntrySize) ==
        "a/x" + wide({k4GiB + 64}) + std::string("\x07\x01\x02\0abhi", 8));
  const auto back = respell_central_entry(far, 64, 6, 6, 7);
  CHECK(as_text(back).substr(kCentralEntrySize) == std::string("a/x\x07\x01\x02\0abhi", 11));
  const auto large = respell_central_entry(original, 64, k4GiB, k4GiB + 1, 7);
  CHECK(as_text(large).substr(kCentralEntrySize, 23) == "a/x" + wide({k4GiB, k4GiB + 1}));
}

TEST_CASE("end records are wide where asked or needed", "[zip]") {
  CHECK(spell_end_records(3, {100, 200}, false, {}).size() == 22);
  CHECK(spell_end_records(3, {100, 200}, false, as_bytes("hello")).size() == 27);
  CHECK(spell_end_records(3, {100, 200}, true, {}).size() == 98);
  CHECK(spell_end_records(65535, {100, 200}, false, {}).size() == 98);
  const auto far = spell_end_records(3, {k4GiB, 200}, false, {});
  REQUIRE(far.size() == 98);
  CHECK(parse_zip64_end(far)->central_offset == k4GiB);
  CHECK(parse_zip64_locator(ByteView(far).subspan(56))->end_offset == k4GiB + 200);
  CHECK(parse_end_record(ByteView(far).subspan(76))->central_offset == kSaturated32);
  CHECK(parse_end_record(ByteView(far).subspan(76))->entries == 3);
}

TEST_CASE("what is deflated inflates to the same", "[zip]") {
  const std::string text(100'000, 'x');
  const auto deflated = deflate(as_bytes(text));
  CHECK(deflated.size() < 1000);
  CHECK(as_text(*inflate(deflated, text.size())) == text);
  CHECK(inflate(deflate({}), 0)->empty());
}

TEST_CASE("hostile extra fields are respelled without harm", "[zip]") {
  for (const auto& extra :
       {std::string(65535, '\xff'), std::string(65535, '\0'), padding(65531), std::string("\1\0\xff", 3)}) {
    const auto original = header(extra);
    const auto record = respell_record(original, k4GiB, {64}, k4GiB, k4GiB, 1);
    CHECK(parse_local_header(record.header)->whole_size() == record.header.size());
    CHECK(respell_local_header(original, 0, original.size()).value_or(original).size() == original.size());
    Bytes central;
    append_central_entry(central, {.name_size = 0, .extra_size = static_cast<std::uint16_t>(extra.size())});
    append_text(central, extra);
    const auto entry = respell_central_entry(central, k4GiB, k4GiB, k4GiB, 1);
    CHECK(parse_central_entry(entry)->whole_size() == entry.size());
  }
}
