// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/gathered_source.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>

#include "support/catch.h"

using namespace ckpt;

namespace {

/// A source of the int32 numbers 0, 1, 2, … that says how much was read of it.
class Numbers final : public ByteSource {
 public:
  explicit Numbers(std::uint64_t count) : count_(count) {}

  const std::string& name() const override { return name_; }

  std::uint64_t size() const override { return 4 * count_; }

  Status read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    CKPT_RETURN_IF_ERROR(require({offset, out.size()}));
    ++reads;
    read += out.size();
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto number = static_cast<std::uint32_t>((offset + i) / 4);
      out[i] = static_cast<std::byte>(number >> (8 * ((offset + i) % 4)));
    }
    return {};
  }

  mutable std::uint64_t reads = 0;
  mutable std::uint64_t read = 0;  ///< bytes

 private:
  std::string name_ = "numbers";
  std::uint64_t count_;
};

using Sizes = std::vector<std::int64_t>;

Gather view_of(std::shared_ptr<const ByteSource> source, Sizes shape, Sizes strides,
               std::uint64_t offset = 0) {
  return {std::move(source), 0,    offset, std::move(shape), std::move(strides), Dtype::kInt32,
          Dtype::kInt32,     false};
}

std::vector<std::int32_t> values(const ByteSource& source, Extent extent) {
  const auto bytes = *source.read(extent);
  std::vector<std::int32_t> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// The slow obvious way.
std::vector<std::int32_t> expected(const Gather& gather) {
  std::vector<std::int32_t> out;
  std::vector<std::int64_t> index(gather.shape.size());
  for (std::uint64_t i = 0; i < gather.numel(); ++i) {
    auto element = static_cast<std::int64_t>(gather.offset);
    for (std::size_t d = 0; d < index.size(); ++d) element += index[d] * gather.strides[d];
    out.push_back(static_cast<std::int32_t>(element));
    for (std::size_t d = index.size(); d-- > 0;) {
      if (++index[d] < gather.shape[d]) break;
      index[d] = 0;
    }
  }
  return out;
}

}  // namespace

TEST_CASE("strided views are made dense", "[compute]") {
  const auto numbers = std::make_shared<Numbers>(100'000'000);
  const Gather cases[] = {
      view_of(numbers, {}, {}, 7),
      view_of(numbers, {5}, {1}, 3),
      view_of(numbers, {5}, {3}),
      view_of(numbers, {4}, {0}, 9),                     // expanded
      view_of(numbers, {3, 4, 5}, {20, 5, 1}),           // C order
      view_of(numbers, {5, 4}, {1, 5}),                  // transposed
      view_of(numbers, {2, 3, 4, 4}, {48, 1, 12, 3}),    // channels last
      view_of(numbers, {3, 2, 4}, {0, 4, 1}, 11),        // expanded in front
      view_of(numbers, {7, 6}, {28, 2}),                 // every second one
      view_of(numbers, {1, 5, 1}, {99, 2, 77}),          // sizes of 1 have any stride
      view_of(numbers, {2000, 1500}, {1, 2000}),         // larger than a box, transposed
      view_of(numbers, {3, 1'000'003}, {1, 3}),          // long and thin
      view_of(numbers, {1'000'003, 3}, {1, 1'000'003}),  // the other way round
      view_of(numbers, {3'000'000}, {17}),               // sparse
      view_of(numbers, {50, 40}, {2'000'000, 40'000}),   // single elements far apart
      view_of(numbers, {45, 37}, {1, 45}),               // not whole squares of cache lines
      view_of(numbers, {600'000, 3}, {2, 1'300'000}),    // long stretches with gaps, side by side in the box
      view_of(numbers, {40, 300'000}, {300'001, 1}),     // long rows
      view_of(numbers, {2, 130, 110, 90}, {110 * 90, 2 * 110 * 90, 1, 110}),
  };
  for (const auto& gather : cases) {
    GatheredSource source("gathered");
    const auto extent = source.add(gather);
    REQUIRE(extent.size == 4 * gather.numel());
    CHECK(values(source, extent) == expected(gather));
  }
}

TEST_CASE("several results lie one behind the other and are read at any place", "[compute]") {
  const auto numbers = std::make_shared<Numbers>(100);
  GatheredSource source("gathered");
  const auto first = source.add(view_of(numbers, {2, 3}, {1, 2}));
  const auto empty = source.add(view_of(numbers, {0, 3}, {3, 1}));
  const auto second = source.add(view_of(numbers, {3}, {10}, 5));
  CHECK(first == Extent{0, 24});
  CHECK(empty.size == 0);
  CHECK(second == Extent{24, 12});
  CHECK(source.size() == 36);
  CHECK(values(source, {4, 28}) == std::vector<std::int32_t>{2, 4, 1, 3, 5, 5, 15});
  CHECK(values(source, second) == std::vector<std::int32_t>{5, 15, 25});
  CHECK_FALSE(source.read({30, 10}).ok());
}

TEST_CASE("a transposed matrix is read about once, in long stretches", "[compute]") {
  const auto numbers = std::make_shared<Numbers>(4096 * 4096);
  GatheredSource source("gathered");
  const auto extent = source.add(view_of(numbers, {4096, 4096}, {1, 4096}));
  Bytes piece(1U << 20U);
  for (std::uint64_t at = 0; at < extent.size; at += piece.size()) REQUIRE(source.read_at(at, piece).ok());
  CHECK(numbers->read == extent.size);
  CHECK(numbers->reads <= 8 * 4096);
}

TEST_CASE("short reads here and there give what is there, and read little", "[compute]") {
  struct Case {
    Sizes shape;
    Sizes strides;
  };

  const Case cases[] = {{{1000, 3000}, {1, 1000}},
                        {{40, 30, 9, 1}, {270, 1, 30, 7}},
                        {{9, 5000, 3}, {15000, 1, 5000}},
                        {{7, 300, 1, 300}, {1, 7, 5, 2100}},
                        {{2'500'000, 3}, {1, 2'500'000}}};
  for (const auto& [shape, strides] : cases) {
    const auto numbers = std::make_shared<Numbers>(9'000'000);
    GatheredSource source("gathered");
    source.add(view_of(numbers, {3, 2}, {1, 3}));
    const auto view = view_of(numbers, shape, strides, 5);
    const auto extent = source.add(view);
    const auto all = expected(view);
    for (std::uint64_t step = 1; step < 40; ++step) {
      const std::uint64_t count = 1 + step * 37 % 256;
      const auto first = step * 7'919'777 % (all.size() - count);
      const auto got = values(source, {extent.offset + 4 * first, 4 * count});
      CHECK(std::equal(got.begin(), got.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
    }
    CHECK(numbers->read < std::uint64_t{4} << 20U);
    Bytes part(7);  // inside an element
    REQUIRE(source.read_at(extent.offset + 4 * 1001 + 2, part).ok());
    CHECK(part[2] == static_cast<std::byte>(all[1002]));
    CHECK(values(source, extent) == all);
  }
}

TEST_CASE("values are turned round and converted on the way", "[compute]") {
  Bytes bytes;
  for (const auto number : {0x3F80, 0xC000, 0x4040}) {  // 1, -2, 3 as the upper halves of float32, big-endian
    bytes.push_back(static_cast<std::byte>(number >> 8));
    bytes.push_back(static_cast<std::byte>(number & 0xFF));
  }
  const auto memory = std::make_shared<MemorySource>("memory", bytes);
  GatheredSource source("gathered");
  const auto extent = source.add({memory, 0, 0, {3}, {1}, Dtype::kBfloat16, Dtype::kInt32, true});
  CHECK(values(source, extent) == std::vector<std::int32_t>{1, -2, 3});
}

TEST_CASE("what threads produce is what one reader reads, each byte once, wherever pieces begin",
          "[compute]") {
  Bytes content(std::size_t{24} << 20U);
  std::uint32_t state = 1;
  for (auto& byte : content) byte = static_cast<std::byte>((state = state * 1664525U + 1013904223U) >> 24U);
  const auto file = std::make_shared<MemorySource>("values", std::move(content));
  GatheredSource source("gathered");
  const auto dense = source.add({file, 0, 0, {1'000'003}, {1}, Dtype::kFloat32, Dtype::kFloat16, false});
  const auto turned = source.add({file, 0, 5, {1500, 2000}, {1, 2000}, Dtype::kInt32, Dtype::kInt32, true});
  const auto sparse = source.add({file, 0, 0, {50'000}, {17}, Dtype::kInt32, Dtype::kInt64, false});
  const std::vector<Extent> pieces = {{0, dense.size},
                                      {turned.offset + 4, 4},
                                      {turned.offset + 1'000'001, turned.size - 2'000'000},
                                      {sparse.offset - 3, sparse.size}};
  for (const std::size_t threads : {1U, 2U, 5U}) {
    std::vector<Bytes> got;
    std::vector<std::uint64_t> delivered(pieces.size());
    for (const auto& piece : pieces) got.emplace_back(piece.size);
    std::mutex mutex;
    const auto deliver = [&](std::size_t piece, std::uint64_t offset, ByteView bytes) {
      const std::lock_guard lock(mutex);
      delivered[piece] += bytes.size();
      std::copy(bytes.begin(), bytes.end(), got.at(piece).begin() + static_cast<std::ptrdiff_t>(offset));
      return Status();
    };
    REQUIRE(source.produce(pieces, {threads, nullptr, nullptr}, deliver, [] {}).ok());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      CHECK(delivered[i] == pieces[i].size);
      CHECK(got[i] == *source.read(pieces[i]));
    }
  }
}

TEST_CASE("who takes what is produced can end it", "[compute]") {
  const auto numbers = std::make_shared<MemorySource>("values", Bytes(std::size_t{8} << 20U));
  GatheredSource source("gathered");
  const auto extent = source.add({numbers, 0, 0, {2'000'000}, {1}, Dtype::kInt32, Dtype::kInt64, false});
  std::atomic<int> taken = 0;
  const auto deliver = [&](std::size_t, std::uint64_t, ByteView) -> Status {
    if (++taken < 3) return {};
    return Error(ErrorCode::kIo, "the disk is full");
  };
  const auto done = source.produce(std::vector{extent}, {2, nullptr, nullptr}, deliver, [] {});
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().message() == "the disk is full");
  CHECK(taken < 8);
}
