// SPDX-License-Identifier: BSD-3-Clause
// Torch zips around 4 GiB, where offsets and sizes no longer fit their fields: what an edit writes is taken
// apart without the library, and every byte of the directory is spelled a second time.
#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "ckpt/base/crc32.h"
#include "ckpt/edit/apply.h"
#include "ckpt/format/format.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"
#include "support/sparse_source.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

constexpr std::uint64_t kLimit = 0xFFFFFFFF;  // from here on, a number needs the zip64 field
constexpr std::uint64_t k4GiB = 0x100000000;

struct Record {
  std::string name;  ///< below the root
  std::uint64_t size = 0;
  std::string body;  ///< where it differs from zeros: its first bytes
  std::uint32_t crc = 0;
};

bool is_wide(std::uint64_t offset, std::uint64_t size) {
  return offset >= kLimit || size >= kLimit;
}

std::string full_name(const std::string& name) {
  return "archive/" + name;
}

/// The numbers that need it, as a zip64 field; no bytes where none does.
Bytes zip64(const std::vector<std::uint64_t>& numbers) {
  Bytes field;
  if (numbers.empty()) return field;
  append_le(field, std::uint16_t{1});
  append_le(field, static_cast<std::uint16_t>(numbers.size() * 8));
  for (const auto number : numbers) append_le(field, number);
  return field;
}

/// The local header that miniz and PyTorch write: sizes are 0 as they follow the data, a wide size and the
/// header's own far offset stand in a zip64 field, and padding takes the data to a multiple of 64.
Bytes local_header(std::uint64_t offset, const Record& record) {
  std::vector<std::uint64_t> numbers;
  if (record.size >= kLimit) numbers = {record.size, 0};
  if (offset >= kLimit) numbers.push_back(offset);
  auto extra = zip64(numbers);
  const auto name = full_name(record.name);
  const auto start = offset + 30 + name.size() + extra.size() + 4;
  const auto padding = (64 - start % 64) % 64;
  append_text(extra, "FB");
  append_le(extra, static_cast<std::uint16_t>(padding));
  append_text(extra, std::string(padding, 'Z'));
  Bytes out;
  append_text(out, std::string_view("PK\3\4\0\0\x08\x08", 8));
  out.resize(26);
  append_le(out, static_cast<std::uint16_t>(name.size()));
  append_le(out, static_cast<std::uint16_t>(extra.size()));
  append_text(out, name);
  append_bytes(out, extra);
  return out;
}

Bytes descriptor(const Record& record, bool wide) {
  Bytes out;
  append_text(out, "PK\7\x08");
  append_le(out, record.crc);
  for (int i = 0; i < 2; ++i) {
    if (wide) {
      append_le(out, record.size);
    } else {
      append_le(out, static_cast<std::uint32_t>(record.size));
    }
  }
  return out;
}

Bytes central_entry(std::uint64_t offset, const Record& record) {
  const auto narrow = [](std::uint64_t number) {
    return static_cast<std::uint32_t>(std::min(number, kLimit));
  };
  std::vector<std::uint64_t> numbers;
  if (record.size >= kLimit) numbers = {record.size, record.size};
  if (offset >= kLimit) numbers.push_back(offset);
  const auto extra = zip64(numbers);
  const auto name = full_name(record.name);
  Bytes out;
  append_text(out, std::string_view("PK\1\2\0\0\0\0\x08\x08\0\0\0\0\0\0", 16));
  append_le(out, record.crc);
  append_le(out, narrow(record.size));
  append_le(out, narrow(record.size));
  append_le(out, static_cast<std::uint16_t>(name.size()));
  append_le(out, static_cast<std::uint16_t>(extra.size()));
  out.resize(42);
  append_le(out, narrow(offset));
  append_text(out, name);
  append_bytes(out, extra);
  return out;
}

/// zip64 end record, locator and end record.
Bytes end_records(std::uint64_t count, std::uint64_t start, std::uint64_t size) {
  Bytes out;
  append_text(out, "PK\6\6");
  append_le(out, std::uint64_t{44});
  append_le(out, std::uint16_t{0x031E});
  append_le(out, std::uint16_t{45});
  append_le(out, std::uint64_t{0});
  for (const auto number : {count, count, size, start}) append_le(out, number);
  append_text(out, std::string_view("PK\6\7\0\0\0\0", 8));
  append_le(out, start + size);
  append_le(out, std::uint32_t{1});
  append_text(out, std::string_view("PK\5\6\0\0\0\0", 8));
  append_le(out, static_cast<std::uint16_t>(count));
  append_le(out, static_cast<std::uint16_t>(count));
  append_le(out, static_cast<std::uint32_t>(size));
  append_le(out, static_cast<std::uint32_t>(std::min(start, kLimit)));
  append_le(out, std::uint16_t{0});
  return out;
}

std::string tensor(std::size_t index, std::uint64_t bytes) {
  const auto number = fmt::format("LONG {}L", bytes);
  return fmt::format(
      "BINUNICODE \"t{}\"; GLOBAL torch._utils _rebuild_tensor_v2; MARK; MARK; BINUNICODE storage; "
      "GLOBAL torch ByteStorage; BINUNICODE \"{}\"; BINUNICODE cpu; {}; TUPLE; BINPERSID; BININT 0; "
      "{}; TUPLE1; BININT 1; TUPLE1; NEWFALSE; GLOBAL collections OrderedDict; EMPTY_TUPLE; REDUCE; TUPLE; "
      "REDUCE; ",
      index, index, number, number);
}

/// What torch.save of 2.7 and later writes for uint8 tensors t0, t1, … of these many bytes, as records.
std::vector<Record> torch_records(const std::vector<std::uint64_t>& sizes) {
  std::string pickle = "PROTO 2; EMPTY_DICT; MARK; ";
  for (std::size_t i = 0; i < sizes.size(); ++i) pickle += tensor(i, sizes[i]);
  std::vector<Record> records = {
      {"data.pkl", 0, std::string(as_text(testing::assemble(pickle + "SETITEMS; STOP")))},
      {".format_version", 0, "1"},
      {".storage_alignment", 0, "64"},
      {"byteorder", 0, "little"}};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    records.push_back({"data/" + std::to_string(i), sizes[i], fmt::format("<{}>", i)});
  }
  records.push_back({"version", 0, "3\n"});
  records.push_back({".data/serialization_id", 0, std::string(40, '0')});
  for (auto& record : records) {
    if (record.name.starts_with("data/")) continue;  // no checksum was computed there
    record.size = record.body.size();
    record.crc = crc32(0, as_bytes(record.body));
  }
  return records;
}

struct Placed {
  Record record;
  std::uint64_t offset = 0;
  std::uint64_t data = 0;
};

struct Archive {
  std::shared_ptr<SparseSource> source = std::make_shared<SparseSource>();
  std::vector<Placed> records;

  const Placed* find(const std::string& name) const {
    const auto found = std::find_if(records.begin(), records.end(),
                                    [&](const Placed& placed) { return placed.record.name == name; });
    return found == records.end() ? nullptr : &*found;
  }
};

Archive write(const std::vector<Record>& records) {
  Archive archive;
  Bytes central;
  std::uint64_t at = 0;
  for (const auto& record : records) {
    const auto header = local_header(at, record);
    const auto data = at + header.size();
    archive.records.push_back({record, at, data});
    archive.source->put(at, header);
    const auto body = as_bytes(record.body);
    archive.source->put(data, {body.begin(), body.end()});
    const auto end = descriptor(record, is_wide(at, record.size));
    archive.source->put(data + record.size, end);
    append_bytes(central, central_entry(at, record));
    at = data + record.size + end.size();
  }
  append_bytes(central, end_records(records.size(), at, central.size()));
  archive.source->put(at, central);
  return archive;
}

/// The file that a layout makes of `source`.
std::shared_ptr<SparseSource> carried_out(const Layout& layout, const SparseSource& source) {
  auto out = std::make_shared<SparseSource>();
  std::uint64_t at = 0;
  for (const auto& segment : layout.parts.front().segments) {
    if (segment.kind == Segment::Kind::kLiteral) {
      const auto bytes = ByteView(layout.pool).subspan(segment.offset, segment.size);
      out->put(at, {bytes.begin(), bytes.end()});
    } else {
      for (const auto& [offset, bytes] : source.pieces()) {
        const auto from = std::max(offset, segment.offset);
        const auto to = std::min(offset + bytes.size(), segment.offset + segment.size);
        if (from < to) out->put(at + from - segment.offset, source.read({from, to - from}).value());
      }
    }
    at += segment.size;
  }
  return out;
}

Bytes bytes_at(const SparseSource& source, std::uint64_t offset, std::uint64_t size) {
  const auto bytes = source.read({offset, size});
  REQUIRE(bytes.ok());
  return *bytes;
}

/// Where the records lie that should come one behind the other. Checks each header, body and descriptor on
/// the way: all is as the input has it, but for the padding and the header's own offset.
Archive walk(std::shared_ptr<SparseSource> source, const Archive& input, const std::vector<Record>& records) {
  Archive archive;
  archive.source = std::move(source);
  std::uint64_t at = 0;
  for (const auto& record : records) {
    CAPTURE(record.name);
    const auto head = bytes_at(*archive.source, at, 30);
    const auto name_size = load_le<std::uint16_t>(head.data() + 26);
    const auto extra_size = load_le<std::uint16_t>(head.data() + 28);
    const auto name = bytes_at(*archive.source, at + 30, name_size);
    CHECK(as_text(name) == full_name(record.name));
    CHECK(as_text(ByteView(head).first(26)) == as_text(ByteView(local_header(0, record)).first(26)));
    const auto data = at + 30 + name_size + extra_size;
    CHECK(data % 64 == 0);
    if (at >= kLimit && input.find(record.name)->offset >= kLimit) {
      const auto extra = bytes_at(*archive.source, at + 30 + name_size, extra_size);
      const auto expected = local_header(at, record);
      const auto wide = record.size >= kLimit ? 28U : 12U;
      CHECK(as_text(ByteView(extra).first(wide)) ==
            as_text(ByteView(expected).subspan(30 + name_size, wide)));
    }
    if (record.name != "data.pkl")
      CHECK(as_text(bytes_at(*archive.source, data, record.body.size())) == record.body);
    const auto original = input.find(record.name);
    const auto wide = is_wide(original->offset, record.size);
    const auto end = bytes_at(*archive.source, data + record.size, wide ? 24 : 16);
    CHECK(end == descriptor(record, wide));
    archive.records.push_back({record, at, data});
    at = data + record.size + end.size();
  }
  Bytes central;
  for (const auto& placed : archive.records)
    append_bytes(central, central_entry(placed.offset, placed.record));
  append_bytes(central, end_records(records.size(), at, central.size()));
  REQUIRE(archive.source->size() == at + central.size());
  CHECK(bytes_at(*archive.source, at, central.size()) == central);
  return archive;
}

/// Where PyTorch computes the storages to be, when `.format_version` says that it may.
void check_promise(const Archive& archive) {
  if (archive.find(".format_version") == nullptr) return;
  std::optional<std::uint64_t> next;
  for (const auto& placed : archive.records) {
    if (!placed.record.name.starts_with("data/")) continue;
    CAPTURE(placed.record.name);
    if (next) {
      CHECK(*next == placed.offset);
      CHECK(placed.data == *next + local_header(*next, placed.record).size());
    }
    next = placed.data + placed.record.size +
           descriptor(placed.record, is_wide(placed.offset, placed.record.size)).size();
  }
}

Plan prefixing(std::size_t size) {
  Plan plan;
  plan.edits.emplace_back(RenameKeys{{{RenameRule::Kind::kAddPrefix, std::nullopt, std::string(size, 'x')}}});
  return plan;
}

Plan dropping(const std::string& key) {
  Plan plan;
  FilterKeys filter;
  filter.rules.push_back({false, NamePattern::exact(key)});
  plan.edits.emplace_back(std::move(filter));
  return plan;
}

/// Edits the file, checks all of the output, and says what lies where in it.
Archive edited(const Archive& input, const Plan& plan, std::vector<std::string> gone) {
  const auto read_before = input.source->bytes_read;
  Diagnostics diagnostics;
  auto checkpoint = read_checkpoint(input.source, diagnostics);
  REQUIRE(checkpoint.ok());
  CHECK(diagnostics.findings().empty());
  REQUIRE(apply_plan(plan, *checkpoint).ok());
  const auto layout = format_of(checkpoint->format).lay_out(*checkpoint);
  REQUIRE(layout.ok());
  CHECK(input.source->bytes_read - read_before < 1'000'000);
  const auto output = carried_out(*layout, *input.source);

  Diagnostics again;
  const auto read = read_checkpoint(output, again);
  REQUIRE(read.ok());
  CHECK(again.findings().empty());
  gone.emplace_back(".data/serialization_id");
  std::vector<Record> expected;
  for (const auto& placed : input.records) {
    auto record = placed.record;
    if (std::find(gone.begin(), gone.end(), record.name) != gone.end()) continue;
    if (record.name == "data.pkl") {  // other tests read it; here its size and sum have to fit
      const auto extent = read->graph().extent();
      const auto pickle = bytes_at(*output, extent.offset, extent.size);
      record.size = pickle.size();
      record.crc = crc32(0, pickle);
    }
    expected.push_back(record);
  }
  auto archive = walk(output, input, expected);
  check_promise(archive);
  return archive;
}

const std::vector<std::string> kPromise = {".format_version", ".storage_alignment"};

std::vector<std::string> with_promise(std::string record) {
  auto names = kPromise;
  names.push_back(std::move(record));
  return names;
}

/// Storages of which the second is so long that the header of the third stands at `offset`; and two more.
Archive archive_with_third_at(std::uint64_t offset) {
  std::vector<std::uint64_t> sizes = {300'000, 3'000'000'000, 500, 400'000};
  const auto lies = write(torch_records(sizes)).find("data/2")->offset;
  sizes[1] += offset - lies;
  auto archive = write(torch_records(sizes));
  REQUIRE(archive.find("data/2")->offset == offset);
  return archive;
}

}  // namespace

TEST_CASE("records beyond 4 GiB move with a rename, and their places can still be computed", "[format]") {
  const auto input = write(torch_records({400, 5'000'000'000, 400, 6'000'000'000, 400'000}));
  for (const std::size_t prefix : {1U, 100U, 5000U, 100'000U}) {
    CAPTURE(prefix);
    const auto output = edited(input, prefixing(prefix), {});
    CHECK(output.find(".format_version") != nullptr);
    CHECK(output.find("data/2")->offset > k4GiB);
    if (prefix > 1) CHECK(output.find("data/4")->offset > input.find("data/4")->offset);
  }
}

TEST_CASE("records come back from beyond 4 GiB where a long one goes", "[format]") {
  const auto input = write(torch_records({400, 5'000'000'000, 400, 400'000}));
  const auto output = edited(input, dropping("t1"), with_promise("data/1"));
  CHECK(input.find("version")->offset > k4GiB);
  CHECK(output.source->size() < 1'000'000);
}

TEST_CASE("records stay beyond 4 GiB where a short one goes", "[format]") {
  const auto input = write(torch_records({400'000, 5'000'000'000, 40'000, 400'000}));
  for (const auto* index : {"0", "2", "3"}) {
    CAPTURE(index);
    const auto output =
        edited(input, dropping(std::string("t") + index), with_promise(std::string("data/") + index));
    CHECK(output.find("version")->offset > k4GiB);
    CHECK(output.find("version")->offset < input.find("version")->offset);
  }
}

TEST_CASE("a record that crosses 4 GiB takes the promise of computable places with it", "[format]") {
  // up, with a longer pickle
  for (const auto offset : {kLimit - 4096, kLimit - 64, kLimit - 1}) {
    CAPTURE(offset);
    const auto output = edited(archive_with_third_at(offset), prefixing(10'000), kPromise);
    CHECK(output.find("data/2")->offset >= kLimit);
  }
  // not at all: the pickle grows into its padding, or all of it lies on the far side already
  for (const auto offset : {kLimit - 1, kLimit, kLimit + 1, k4GiB, k4GiB + 1}) {
    CAPTURE(offset);
    const auto output = edited(archive_with_third_at(offset), prefixing(1), {});
    CHECK(output.find("data/2")->offset == offset);
  }
  for (const auto offset : {kLimit, kLimit + 1, k4GiB}) {
    CAPTURE(offset);
    CHECK(edited(archive_with_third_at(offset), prefixing(10'000), {}).find("data/2")->offset > offset);
  }
  // down, where a storage before it goes
  for (const auto offset : {kLimit, kLimit + 1, kLimit + 20}) {
    CAPTURE(offset);
    const auto output = edited(archive_with_third_at(offset), dropping("t0"), with_promise("data/0"));
    CHECK(output.find("data/2")->offset < kLimit);
  }
}

TEST_CASE("a record lands on the last offset that needs no zip64, and on the first that does", "[format]") {
  for (const auto wanted : {kLimit - 1, kLimit, kLimit + 1}) {
    CAPTURE(wanted);
    constexpr auto kTrial = kLimit - 1'000'000;
    const auto trial = edited(archive_with_third_at(kTrial), dropping("t0"), with_promise("data/0"));
    const auto down = kTrial - trial.find("data/2")->offset;
    const auto output = edited(archive_with_third_at(wanted + down), dropping("t0"), with_promise("data/0"));
    CHECK(output.find("data/2")->offset == wanted);
  }
}
