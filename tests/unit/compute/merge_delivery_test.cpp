// SPDX-License-Identifier: BSD-3-Clause
// Results in another order of dimensions or bytes than they are merged in.
#include "ckpt/compute/merge_delivery.h"

#include <algorithm>

#include "ckpt/compute/convert.h"
#include "support/catch.h"
#include "support/dimension_orders.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

struct Case {
  Shape shape;
  Order order;
  std::uint64_t block;  ///< elements
};

const std::vector<Case> kCases = {
    {{4, 3, 5, 2}, {0, 2, 3, 1}, 30},      {{4, 3, 5, 2}, {3, 2, 1, 0}, 120},
    {{4, 3, 5, 2}, {0, 1, 3, 2}, 10},      {{4, 3, 5, 2}, {0, 1, 2, 3}, 1},
    {{4, 1, 5, 1}, {0, 2, 1, 3}, 1},       {{1, 7}, {1, 0}, 1},
    {{600, 700}, {1, 0}, 420'000},         {{3, 500, 9, 41}, {0, 2, 3, 1}, 184'500},
    {{300, 60, 5, 5}, {0, 2, 3, 1}, 1500}, {{2, 300, 70, 20}, {0, 3, 2, 1}, 420'000},
    {{200'001, 3}, {1, 0}, 600'003},       {{5, 70'000, 2}, {2, 1, 0}, 700'000},
};

Extent add_behind_another(MergedSource& source, const MergeJob& job) {
  source.add(job_of(MergeMethod::kMean, {{1, 2}, {3, 4}}));
  return source.add(job);
}

Bytes read(const MergedSource& source, Extent extent) {
  Bytes out(extent.size);
  REQUIRE(source.read_at(extent.offset, out).ok());
  return out;
}

}  // namespace

TEST_CASE("a block is what is inside the dimensions that both orders begin with", "[compute]") {
  for (const auto& [shape, order, block] : kCases) CHECK(BlockOrder(shape, order).size() == block);
}

TEST_CASE("elements of every size come into any order, from any of them on", "[compute]") {
  const Shape shape = {4, 3, 5, 2};
  for (const std::size_t item : {1U, 2U, 4U, 8U, 16U}) {
    Bytes values(product(shape) * item);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i * 37 % 251);
    Order order = {0, 1, 2, 3};
    do {
      const auto wanted = in_order(shape, order, item, values);
      const BlockOrder arranging(shape, order);
      for (const std::size_t step : {1U, 7U, 120U}) {
        Bytes got(values.size());
        for (std::size_t first = 0; first < 120; first += step)
          arranging.arrange(item, values.data(), first, std::min<std::size_t>(step, 120 - first),
                            got.data() + first * item);
        CHECK(got == wanted);
      }
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST_CASE("what is merged in C order lies in the order that is asked for", "[compute]") {
  for (const auto& [shape, order, block] : kCases) {
    const auto tensors = related(3, product(shape), Dtype::kFloat32);
    auto job = job_of(MergeMethod::kTies, tensors, Dtype::kFloat32);
    job.shape = shape;
    job.dtype = Dtype::kBfloat16;
    job.parameters.densities = {0.3, 0.7};
    const auto plain = merged(job);
    REQUIRE(plain.status.ok());
    auto wanted = in_order(shape, order, 2, plain.bytes);
    job.order = order;
    for (const std::size_t threads : {1U, 2U, 7U}) {
      const auto got = merged(job, threads);
      REQUIRE(got.status.ok());
      CHECK(got.bytes == wanted);
      CHECK(got.measures.gram == plain.measures.gram);
    }
    job.result_swapped = true;
    swap_byte_order(Dtype::kBfloat16, wanted);
    CHECK(merged(job, 2).bytes == wanted);

    MergedSource source("merged", std::nullopt);
    const auto extent = add_behind_another(source, job);
    CHECK(read(source, extent) == wanted);
    for (std::size_t at = wanted.size(); at > 0;) {
      const auto size = std::min<std::size_t>(at, wanted.size() / 3 + 1);
      at -= size;
      const auto part = read(source, {extent.offset + at, size});
      CHECK(std::equal(part.begin(), part.end(), wanted.begin() + static_cast<std::ptrdiff_t>(at)));
    }
  }
}

TEST_CASE("a block that does not fit memory comes in slabs", "[compute]") {
  const std::vector<Case> cases = {{{600, 700}, {1, 0}, 420'000},
                                   {{3, 500, 41, 9}, {0, 3, 1, 2}, 184'500},
                                   {{2, 300, 70, 20}, {0, 3, 2, 1}, 420'000},
                                   {{40, 90, 41}, {2, 0, 1}, 147'600},
                                   {{200'001, 3}, {1, 0}, 600'003}};
  for (const auto& [shape, order, block] : cases) {
    auto job = job_of(MergeMethod::kDareTies, related(3, product(shape), Dtype::kFloat32), Dtype::kFloat32);
    job.shape = shape;
    job.parameters.densities = {0.5, 0.5};
    const auto wanted = in_order(shape, order, 4, merged(job).bytes);
    job.order = order;
    for (const std::uint64_t most : {std::uint64_t{1}, std::uint64_t{70'000}, block * 4 - 1}) {
      job.most_slab_bytes = most;
      CHECK(BlockOrder(shape, order, most / 4).is_cut());
      for (const std::size_t threads : {1U, 3U}) CHECK(merged(job, threads).bytes == wanted);
      if (most == 1) continue;  // each row would want all others to be merged
      MergedSource source("merged", std::nullopt);
      const auto extent = add_behind_another(source, job);
      CHECK(read(source, extent) == wanted);
    }
  }
}

TEST_CASE("a tensor is put in order where its slabs lie in runs worth writing", "[compute]") {
  const auto is_cut = [](const Shape& shape, const Order& order, std::size_t item) {
    return BlockOrder(shape, order, kMostSlabBytes / item).is_cut();
  };
  const Shape large{16'384, 16'384};
  CHECK((is_cut(large, {1, 0}, 4) && can_deliver(large, Order{1, 0}, 4)));  // runs of 1 KiB
  const Shape blocks{8, 16'384, 16'384};
  CHECK((is_cut(blocks, {0, 2, 1}, 4) && can_deliver(blocks, Order{0, 2, 1}, 4)));
  const Shape small{1024, 1024};
  CHECK((!is_cut(small, {1, 0}, 4) && can_deliver(small, Order{1, 0}, 4)));
  CHECK_FALSE(can_deliver(Shape{64, 1 << 24}, Order{1, 0}, 2));       // runs of 2 bytes
  CHECK_FALSE(can_deliver(Shape{2, 9000, 9000}, Order{2, 1, 0}, 4));  // a row is too large
}

TEST_CASE("pieces of a tensor in another order are its bytes", "[compute]") {
  const Shape shape = {40, 90, 10, 9};
  auto job = job_of(MergeMethod::kDareTies, related(2, product(shape), Dtype::kFloat32), Dtype::kFloat32);
  job.shape = shape;
  job.parameters.densities = {0.5};
  job.order = {0, 2, 3, 1};
  const auto whole = merged(job);
  REQUIRE(whole.status.ok());
  MergedSource source("merged", std::nullopt);
  const auto extent = source.add(job);
  const std::vector<Extent> pieces = {{700'001, 333'333}, {0, extent.size}, {5, 1}};
  std::vector<Bytes> got = {Bytes(333'333), Bytes(extent.size), Bytes(1)};
  const auto deliver = [&](std::size_t piece, std::uint64_t offset, ByteView bytes) -> Status {
    std::copy(bytes.begin(), bytes.end(), got[piece].begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  };
  REQUIRE(source.produce(pieces, {}, deliver, [] {}).ok());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    CHECK(std::equal(got[i].begin(), got[i].end(),
                     whole.bytes.begin() + static_cast<std::ptrdiff_t>(pieces[i].offset)));
}

TEST_CASE("integers come in the byte order of the file, too", "[compute]") {
  auto job = job_of(MergeMethod::kMean, {{}, {}});
  job.shape = {2};
  job.dtype = Dtype::kInt32;
  job.integers = IntegerRule::kMax;
  for (auto& input : job.inputs) input.dtype = Dtype::kInt32;
  job.inputs[0] = input_of(Dtype::kInt32, {std::byte{1}, {}, {}, {}, std::byte{2}, {}, {}, {}}, 0);
  job.inputs[1] = input_of(Dtype::kInt32, {std::byte{5}, {}, {}, {}, {}, {}, {}, {}}, 1);
  job.result_swapped = true;
  CHECK(merged(job).bytes == Bytes{{}, {}, {}, std::byte{5}, {}, {}, {}, std::byte{2}});
}
