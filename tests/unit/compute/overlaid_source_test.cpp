// SPDX-License-Identifier: BSD-3-Clause
// Rows of one tensor over another: the same bytes in any piece, on a processor and on a (fake) GPU.
#include "ckpt/compute/overlaid_source.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/fake_device.h"

namespace ckpt {
namespace {

using Rows = OverlaidSource::Rows;

constexpr std::uint64_t kMebibyte = std::uint64_t{1} << 20U;

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes out(size);
  for (auto& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

/// A tensor of 900 rows of 700 x 3 float16, in C order or transposed, some bytes into its file.
Gather old_tensor(bool is_transposed) {
  Gather view;
  view.source = std::make_shared<MemorySource>("old", random_bytes(900 * 2100 * 2 + 100, 1));
  view.storage = 32;
  view.offset = 3;
  view.shape = {900, 700, 3};
  view.strides = {2100, 3, 1};
  if (is_transposed) view.strides = {1, 2700, 900};
  view.from = view.to = Dtype::kFloat16;
  return view;
}

/// 1100 rows, some of them the old ones.
OverlaidSource source_of(bool is_transposed, Rows rows) {
  return {std::make_shared<MemorySource>("new", random_bytes(1100 * 4200, 2)), old_tensor(is_transposed),
          std::move(rows)};
}

Rows neighbours(std::uint64_t to, std::uint64_t from, std::uint64_t count) {
  Rows rows;
  for (std::uint64_t i = 0; i < count; ++i) rows[to + i] = from + i;
  return rows;
}

/// Two thirds of the rows, in any order and some of them twice.
Rows shuffled() {
  std::mt19937 random(3);
  Rows rows;
  for (std::uint64_t to = 0; to < 1100; ++to) {
    if (random() % 3 != 0) rows[to] = random() % 900;
  }
  return rows;
}

class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(Bytes bytes) : bytes_("counted", std::move(bytes)) {}

  const std::string& name() const override { return bytes_.name(); }

  std::uint64_t size() const override { return bytes_.size(); }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    bytes_read += out.size();
    return bytes_.read_at(offset, out);
  }

  mutable std::uint64_t bytes_read = 0;

 private:
  MemorySource bytes_;
};

struct Produced {
  Status status;
  std::vector<Bytes> pieces;
};

Produced produced(const OverlaidSource& source, const std::vector<Extent>& pieces,
                  const std::shared_ptr<const Device>& device) {
  Produced out;
  for (const auto& piece : pieces) out.pieces.emplace_back(piece.size);
  const auto deliver = [&](std::size_t piece, std::uint64_t offset, ByteView bytes) -> Status {
    std::copy(bytes.begin(), bytes.end(), out.pieces[piece].begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  };
  out.status = source.produce(pieces, {2, device, nullptr}, deliver, [] {});
  return out;
}

}  // namespace

TEST_CASE("rows of another tensor lie over those of the new one", "[compute]") {
  const auto source = [](const std::string& text) {
    const auto view = as_bytes(text);
    return std::make_shared<MemorySource>("text", Bytes(view.begin(), view.end()));
  };
  Gather old;
  old.source = source("ABCDEF");
  old.shape = {3, 2};
  old.strides = {2, 1};
  old.from = old.to = Dtype::kUint8;
  const OverlaidSource overlaid(source("aabbccddee"), old, {{1, 2}, {4, 0}});
  const std::string whole = "aaEFccddAB";
  for (std::uint64_t begin = 0; begin <= whole.size(); ++begin) {
    for (std::uint64_t end = begin; end <= whole.size(); ++end) {
      CAPTURE(begin, end);
      CHECK(as_text(overlaid.read({begin, end - begin}).value()) == whole.substr(begin, end - begin));
    }
  }
}

TEST_CASE("rows in any order cost reading their tensor, not a box of it each", "[compute]") {
  const auto counting = std::make_shared<CountingSource>(random_bytes(9000 * 2100, 4));
  for (const bool is_transposed : {false, true}) {
    CAPTURE(is_transposed);
    Gather view;
    view.source = counting;
    view.shape = {9000, 1050};
    view.strides = {1050, 1};
    if (is_transposed) view.strides = {1, 9000};
    view.from = view.to = Dtype::kFloat16;
    Rows rows;
    std::mt19937 random(5);
    for (std::uint64_t to = 0; to < 300; ++to) rows[to] = random() % 9000;
    const OverlaidSource source(std::make_shared<MemorySource>("new", random_bytes(400 * 2100, 6)), view,
                                rows);
    counting->bytes_read = 0;
    REQUIRE(produced(source, {{0, source.size()}}, nullptr).status.ok());
    CHECK(counting->bytes_read <= 2 * counting->size());
  }
}

TEST_CASE("rows are the same on a GPU and on a processor, and in any piece", "[compute][modules]") {
  for (const auto& rows : {neighbours(0, 0, 900), neighbours(150, 37, 600), shuffled()}) {
    for (const bool is_transposed : {false, true}) {
      CAPTURE(rows.size(), is_transposed);
      const auto source = source_of(is_transposed, rows);
      const auto expected = source.read({0, source.size()}).value();
      const std::vector<Extent> parts = {{0, 5}, {5, source.size() - 1000}, {source.size() - 995, 995}};
      const auto in_parts = produced(source, parts, nullptr);
      REQUIRE(in_parts.status.ok());
      Bytes together;
      for (const auto& part : in_parts.pieces) append_bytes(together, part);
      CHECK(together == expected);
      for (unsigned seed = 0; seed < 2; ++seed) {
        test::FakeDevice fake(seed, kMebibyte + 48);  // 249 rows at once
        const auto found = produced(source, {{0, source.size()}, {0, source.size()}}, fake.device());
        REQUIRE(found.status.ok());
        CHECK(found.pieces[0] == expected);
        CHECK(found.pieces[1] == expected);
        CHECK(fake.device()->copied() == 2 * rows.size() * 4200);
        CHECK(fake.device()->computed() == 0);
      }
    }
  }
}

TEST_CASE("rows that are not worth the trip to a GPU, or for which it has no room, are read here",
          "[compute][modules]") {
  const auto expect_none = [](const Rows& rows, std::uint64_t memory, bool is_transposed) {
    const auto source = source_of(is_transposed, rows);
    test::FakeDevice fake(1, kMebibyte);
    fake.driver.memory_free = memory;
    const auto found = produced(source, {{0, source.size()}}, fake.device());
    REQUIRE(found.status.ok());
    CHECK(found.pieces[0] == source.read({0, source.size()}).value());
    CHECK(fake.device()->copied() == 0);
  };
  expect_none(neighbours(0, 0, 200), 100 * kMebibyte, false);  // less than a mebibyte
  expect_none({{0, 0}, {5, 899}}, 100 * kMebibyte, false);     // most of what would be sent is not wanted
  expect_none(neighbours(0, 0, 900), 4 * kMebibyte, false);    // no room for the old tensor
  expect_none(shuffled(), 6 * kMebibyte, true);                // none for it in C order
}

TEST_CASE("an error on the way of rows ends the work", "[compute][modules]") {
  const auto source = source_of(true, shuffled());
  test::FakeDevice fake(1, kMebibyte);
  for (const int copies : {0, 3, 6}) {
    fake.driver.copies_left = copies;
    const auto found = produced(source, {{0, source.size()}}, fake.device());
    REQUIRE_FALSE(found.status.ok());
    CHECK(found.status.error().message() == "GPU: the bus is broken");
  }
}

}  // namespace ckpt
