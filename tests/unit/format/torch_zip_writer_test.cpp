// SPDX-License-Identifier: BSD-3-Clause
// What is copied, what is spelled anew and what goes when a torch zip is laid out with edits.
#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <tuple>

#include "ckpt/edit/apply.h"
#include "ckpt/zip/directory.h"
#include "support/catch.h"
#include "support/checkpoint_builder.h"
#include "support/zip_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

using Names = std::vector<std::string>;

Bytes golden(const std::string& name) {
  std::ifstream file(std::string(CKPT_TEST_DATA) + "/" + name, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto view = as_bytes(text);
  return {view.begin(), view.end()};
}

Plan renaming() {
  Plan plan;
  plan.edits.emplace_back(RenameKeys{{{RenameRule::Kind::kAddPrefix, std::nullopt, "renamed."}}});
  return plan;
}

Plan dropping(const Names& keys) {
  Plan plan;
  FilterKeys filter;
  for (const auto& key : keys) filter.rules.push_back({false, NamePattern::exact(key)});
  plan.edits.emplace_back(std::move(filter));
  return plan;
}

struct Edited {
  Checkpoint checkpoint;
  Layout layout;
  Bytes bytes;

  std::vector<Segment> copies() const {
    std::vector<Segment> found;
    for (const auto& segment : layout.parts.front().segments) {
      if (segment.kind == Segment::Kind::kCopy) found.push_back(segment);
    }
    return found;
  }

  /// Record names without the root.
  Names records() const {
    Diagnostics diagnostics;
    const auto directory = ZipDirectory::read(source_of(bytes), diagnostics);
    REQUIRE(directory.ok());
    CHECK(diagnostics.findings().empty());
    Names names;
    for (RecordId record = 0; record < directory->entries().size(); ++record) {
      names.emplace_back(directory->name(record));
    }
    return names;
  }

  bool has(const std::string& record) const {
    const auto names = records();
    return std::find(names.begin(), names.end(), record) != names.end();
  }
};

Edited edited(const Bytes& input, const Plan& plan) {
  auto checkpoint = read_bytes(input);
  REQUIRE(checkpoint.ok());
  Edited out{std::move(checkpoint).value(), {}, {}};
  REQUIRE(apply_plan(plan, out.checkpoint).ok());
  auto layout = format_of(out.checkpoint.format).lay_out(out.checkpoint);
  REQUIRE(layout.ok());
  out.layout = std::move(layout).value();
  out.bytes = written(out.layout, out.checkpoint);
  return out;
}

TEST_CASE("without an edit the layout is the input, in one piece", "[format]") {
  for (const auto* name : {"torch-2.15-flat.pt", "torch-2.15-infozip.pt", "torch-1.13-flat.pt"}) {
    const auto input = golden(name);
    const auto result = edited(input, Plan{});
    CHECK(result.layout.parts.front().segments.size() == 1);
    CHECK(result.bytes == input);
  }
}

TEST_CASE("a rename copies everything behind the pickle in one run", "[format]") {
  for (const auto* name : {"torch-2.15-flat.pt", "torch-2.6-many.pt", "torch-1.13-flat.pt"}) {
    CAPTURE(name);
    const auto result = edited(golden(name), renaming());
    CHECK(result.copies().size() == 1);
    CHECK(table(*read_bytes(result.bytes)).size() == table(*read_bytes(golden(name))).size());
  }
}

TEST_CASE("a run moves by whole pages, long or short", "[format]") {
  for (const auto* description : {"a float32 100000; b float32 2", "a float32 100; b float32 2"}) {
    const auto result = edited(build_torch_zip(description), renaming());
    std::uint64_t at = 0;
    for (const auto& segment : result.layout.parts.front().segments) {
      if (segment.kind == Segment::Kind::kCopy) CHECK((at - segment.offset) % 4096 == 0);
      at += segment.size;
    }
  }
}

TEST_CASE("a large storage that came from a file keeps its offset within a page", "[format]") {
  auto checkpoint = read_bytes(build_torch_zip("a float32 100000; b float32 100000; c float32 4"));
  REQUIRE(checkpoint.ok());
  const auto file_size = checkpoint->parts.front().source->size();
  for (const auto& [offset, size, wanted] :
       {std::tuple{std::uint64_t{64}, std::uint64_t{200'000}, std::uint64_t{64}},
        std::tuple{std::uint64_t{8000}, std::uint64_t{200'000}, std::uint64_t{8000 % 4096}},
        std::tuple{std::uint64_t{8001}, std::uint64_t{200'000}, std::uint64_t{0}},  // values want 64 bytes
        std::tuple{std::uint64_t{8000}, std::uint64_t{4000}, std::uint64_t{0}}}) {  // too small for a page
    CAPTURE(offset, size);
    REQUIRE(offset + size < file_size);
    auto edited = read_bytes(build_torch_zip("a float32 100000; b float32 100000; c float32 4"));
    REQUIRE(edited.ok());
    const auto storage = edited->add_storage({0, {offset, size}, std::nullopt, nullptr}, Dtype::kFloat32);
    edited->replace(0, 2, {Dtype::kFloat32, storage, 0, {static_cast<std::int64_t>(size / 4)}, {}});
    const auto layout = format_of(edited->format).lay_out(*edited);
    REQUIRE(layout.ok());
    std::uint64_t at = 0;
    std::uint64_t found = 0;
    for (const auto& segment : layout->parts.front().segments) {
      if (segment.kind == Segment::Kind::kSummedCopy) found = at;
      at += segment.size;
    }
    if (wanted == 0) {
      CHECK(found % 64 == 0);
      CHECK(found % 4096 != offset % 4096);
    } else {
      CHECK(found % 4096 == wanted);
    }
    CHECK(read_bytes(written(*layout, *edited)).ok());
  }
}

TEST_CASE("dropping every tenth tensor leaves the runs between them", "[format]") {
  std::string description;
  Names gone;
  for (int i = 0; i < 100; ++i) {
    const auto key = "k" + std::to_string(100 + i);
    description += key + " float32 20;";
    if (i % 10 == 5) gone.push_back(key);
  }
  const auto result = edited(build_torch_zip(description), dropping(gone));
  const auto copies = result.copies().size();
  CHECK(copies >= 10);
  CHECK(copies <= 12);
  CHECK(table(*read_bytes(result.bytes)).size() == 90);
}

TEST_CASE("the promise of computable offsets stays with a rename and goes with a drop", "[format]") {
  const auto input = golden("torch-2.15-flat.pt");
  const auto renamed = edited(input, renaming());
  CHECK(renamed.has(".format_version"));
  CHECK(renamed.has(".storage_alignment"));
  const auto dropped = edited(input, dropping({"fc.bias"}));
  CHECK_FALSE(dropped.has(".format_version"));
  CHECK_FALSE(dropped.has(".storage_alignment"));
}

TEST_CASE("a file that was zipped again has lost the promise, and an edit takes the record away",
          "[format]") {
  CHECK_FALSE(edited(golden("torch-2.15-rezipped-stored.pt"), renaming()).has(".format_version"));
}

TEST_CASE("the serialization id goes with any edit", "[format]") {
  for (const auto* name : {"torch-2.15-flat.pt", "torch-2.6-many.pt"}) {
    CHECK(edited(golden(name), Plan{}).has(".data/serialization_id"));
    CHECK_FALSE(edited(golden(name), renaming()).has(".data/serialization_id"));
  }
}

TEST_CASE("the comment and what follows the archive are carried", "[format]") {
  const auto input = build_zip("a/data.pkl; a/version; a/data/0; comment remark; after and\\sthe\\srest");
  const auto output = edited(input, renaming());
  const std::string_view tail("\6\0remarkand the rest", 20);
  CHECK(as_text(input).ends_with(tail));
  CHECK(as_text(output.bytes).ends_with(tail));
}

TEST_CASE("a storage goes with its last tensor, not before", "[format]") {
  const auto input = build_torch_zip("a float32 4; b float32 4 storage=a; c float32 4");
  CHECK(edited(input, dropping({"a"})).records().size() == edited(input, renaming()).records().size());
  const auto both = edited(input, dropping({"a", "b"}));
  CHECK(both.records().size() + 1 == edited(input, renaming()).records().size());
  const auto left = read_bytes(both.bytes);
  REQUIRE(left.ok());
  CHECK(left->storages.size() == 1);
  CHECK(left->unreferenced_storages.empty());
}

}  // namespace

namespace {

/// The archive written again with a foreign extra field of `size` bytes in every local header but the
/// pickle's.
Bytes with_local_extra(const Bytes& archive, std::uint16_t size) {
  Diagnostics diagnostics;
  const auto directory = ZipDirectory::read(source_of(archive), diagnostics);
  REQUIRE(directory.ok());
  Bytes out;
  Bytes central;
  const auto count = static_cast<std::uint16_t>(directory->entries().size());
  for (RecordId record = 0; record < count; ++record) {
    const auto name = directory->full_name(record);
    const auto data = read_record(*directory, record, 1 << 20);
    REQUIRE(data.ok());
    const auto extra = directory->name(record) == "data.pkl" ? std::uint16_t{0} : size;
    Bytes common;  // flags to name length, the same in both headers
    for (const std::uint16_t field : std::initializer_list<std::uint16_t>{0x0800, 0, 0, 0x21})
      append_le(common, field);
    append_le(common, directory->entry(record).crc32);
    append_le(common, static_cast<std::uint32_t>(data->size()));
    append_le(common, static_cast<std::uint32_t>(data->size()));
    append_le(common, static_cast<std::uint16_t>(name.size()));
    append_text(central, std::string_view("PK\1\2\0\0\0\0", 8));
    append_bytes(central, common);
    central.resize(central.size() + 12);
    append_le(central, static_cast<std::uint32_t>(out.size()));
    append_text(central, name);
    append_text(out, std::string_view("PK\3\4\0\0", 6));
    append_bytes(out, common);
    append_le(out, extra);
    append_text(out, name);
    if (extra > 0) {
      append_le(out, std::uint16_t{0x7777});
      append_le(out, static_cast<std::uint16_t>(extra - 4));
      out.resize(out.size() + extra - 4U);
    }
    append_bytes(out, *data);
  }
  const auto start = static_cast<std::uint32_t>(out.size());
  append_bytes(out, central);
  append_text(out, std::string_view("PK\5\6\0\0\0\0", 8));
  append_le(out, count);
  append_le(out, count);
  append_le(out, static_cast<std::uint32_t>(central.size()));
  append_le(out, start);
  append_le(out, std::uint16_t{0});
  return out;
}

}  // namespace

TEST_CASE("a local header that is full already gets no padding, and the edit ends", "[format]") {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{100, 65500, 65528, 65535}) {
    CAPTURE(size);
    const auto input = with_local_extra(golden("torch-1.13-flat.pt"), size);
    const auto result = edited(input, renaming());
    CHECK(table(*read_bytes(result.bytes)).size() == table(*read_bytes(input)).size());
    CHECK(result.records().size() == edited(golden("torch-1.13-flat.pt"), renaming()).records().size());
  }
}
