// SPDX-License-Identifier: BSD-3-Clause
// Methods that ask where an element is, of tensors that lie in another order than C order.
#include <algorithm>
#include <array>
#include <cstring>

#include "ckpt/compute/place_order.h"
#include "ckpt/compute/place_search.h"
#include "support/catch.h"
#include "support/dimension_orders.h"
#include "support/merge_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

struct Case {
  Shape shape;
  Order order;
};

const std::vector<Case> kCases = {
    {{4, 3, 5, 2}, {0, 2, 3, 1}}, {{4, 3, 5, 2}, {3, 2, 1, 0}},    {{4, 1, 5, 1}, {2, 1, 0, 3}},
    {{600, 700}, {1, 0}},         {{3, 500, 9, 41}, {0, 2, 3, 1}}, {{200'001, 3}, {1, 0}},
};

constexpr std::array kMethods = {
    MergeMethod::kTies,        MergeMethod::kDareLinear,      MergeMethod::kDareTies,
    MergeMethod::kBreadcrumbs, MergeMethod::kBreadcrumbsTies, MergeMethod::kSce};

/// Whole numbers, few of them: a cut goes through many equal ones, and sums are exact in any order.
std::vector<Numbers> few_values(std::size_t tensors, std::size_t count) {
  std::vector<Numbers> out(tensors);
  for (std::size_t k = 0; k < tensors; ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto base = static_cast<double>(merge_random(7, i) % 3);
      const auto change = static_cast<double>(merge_random(k, i) % 4) - 2;
      out[k].push_back(k == 0 ? base : base + change);
    }
  }
  return out;
}

/// The job with its inputs as they lie in the order.
MergeJob laid(const MergeJob& job, const std::vector<Numbers>& tensors, const Case& one) {
  auto out = job;
  for (std::size_t k = 0; k < tensors.size(); ++k)
    out.inputs[k] =
        input_of(Dtype::kFloat32, in_order(one.shape, one.order, 4, stored(Dtype::kFloat32, tensors[k])), k);
  out.shape = in_order(one.shape, one.order);
  out.axes = one.order;
  return out;
}

TEST_CASE("places of elements that lie in another order come in runs", "[compute]") {
  for (const auto& one : kCases) {
    Bytes places;
    for (std::uint32_t place = 0; place < product(one.shape); ++place) {
      places.resize(places.size() + sizeof place);
      std::memcpy(places.data() + place * sizeof place, &place, sizeof place);
    }
    const auto wanted = in_order(one.shape, one.order, sizeof(std::uint32_t), places);
    const PlaceOrder order(in_order(one.shape, one.order), one.order);
    std::size_t wrong = 0;
    for (std::uint64_t first = 0; first < product(one.shape);) {
      const auto run = order.run_at(first, 1000);
      REQUIRE(run.count > 0);
      REQUIRE(run.count <= 1000);
      for (std::uint64_t i = 0; i < run.count; ++i, ++first) {
        std::uint32_t place = 0;
        std::memcpy(&place, wanted.data() + first * sizeof place, sizeof place);
        if (run.place + i * run.step != place) ++wrong;
      }
    }
    CHECK(wrong == 0);
  }
  CHECK(PlaceOrder(Shape{4, 1, 5}, Order{0, 2, 1}).is_plain() ==
        PlaceOrder(Shape{4, 5, 1}, Order{0, 2, 1}).is_plain());
  CHECK(PlaceOrder(Shape{4, 5, 1}, Order{0, 2, 1}).is_plain());
  CHECK_FALSE(PlaceOrder(Shape{5, 4}, Order{1, 0}).is_plain());
}

TEST_CASE("a run knows how many of its places are before one", "[compute]") {
  const PlaceRun run{10, 3, 4};  // 10, 13, 16, 19
  const std::vector<std::uint64_t> wanted = {0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4};
  for (std::uint64_t i = 0; i < wanted.size(); ++i) CHECK(run.before(9 + i) == wanted[i]);
}

TEST_CASE("the end of the first places is found, however many there are", "[compute]") {
  for (const std::uint64_t count : {1U, 5U, 262'144U, 262'145U, 2'000'000U}) {
    for (const double share : {0.0, 0.3, 1.0}) {
      const auto wanted =
          std::max<std::uint64_t>(1, static_cast<std::uint64_t>(share * static_cast<double>(count)));
      const std::uint64_t limit = std::uint64_t{1} << 40U;
      const auto place = [&](std::uint64_t i) {  // half of them side by side
        return i % 2 == 0 ? 1'000'000 + i : i * (limit / count);
      };
      std::vector<std::uint64_t> places;
      for (std::uint64_t i = 0; i < count; ++i) places.push_back(place(i));
      PlaceSearch search(limit, wanted, count);
      while (!search.is_found()) {
        for (std::size_t first = 0; first < places.size(); first += 100'000) {
          PlaceSearch::Chunk chunk;
          for (auto i = first; i < std::min(places.size(), first + 100'000); ++i)
            search.add(chunk, places[i]);
          search.end_chunk(chunk);
        }
        search.settle();
      }
      const auto before =
          std::count_if(places.begin(), places.end(), [&](auto one) { return one < search.end(); });
      CHECK(static_cast<std::uint64_t>(before) == wanted);
    }
  }
}

TEST_CASE("a tensor is merged as it lies, with the places of C order", "[compute]") {
  for (const auto& one : kCases) {
    const auto count = product(one.shape);
    for (const bool few : {true, false}) {
      const auto tensors = few ? few_values(3, count) : related(3, count, Dtype::kFloat32);
      for (const auto method : kMethods) {
        if (!few && method == MergeMethod::kSce) continue;  // its sums are rounded in another order
        auto job = job_of(method, tensors, Dtype::kFloat32);
        job.shape = one.shape;
        job.parameters.densities = {0.3, 0.7};
        job.parameters[MergeParameter::kSelectTopk] = 0.4;
        const auto plain = merged(job);
        REQUIRE(plain.status.ok());
        const auto wanted = in_order(one.shape, one.order, 4, plain.bytes);
        const auto lying = laid(job, tensors, one);
        CHECK(merged(lying, 3).bytes == wanted);
        if (few) CHECK(merged(lying, 1, VectorUnit::kBaseline).bytes == wanted);
      }
    }
  }
}

TEST_CASE("both ends of a band go through the same magnitudes, of many tensors", "[compute]") {
  const Case one{{700, 500}, {1, 0}};
  std::vector<Numbers> tensors(7, Numbers(product(one.shape)));
  for (std::size_t k = 1; k < tensors.size(); ++k)
    std::fill(tensors[k].begin(), tensors[k].end(), k % 2 == 0 ? 1 : -3);
  for (const auto method : {MergeMethod::kBreadcrumbs, MergeMethod::kBreadcrumbsTies}) {
    auto job = job_of(method, tensors, Dtype::kFloat32);
    job.shape = one.shape;
    job.parameters.densities = {0.3, 0.7, 0.5, 0.1, 0.2, 0.6};
    job.parameters.gammas = {0.1, 0.01, 0.2, 0.3, 0.05, 0.02};
    const auto plain = merged(job);
    REQUIRE(plain.status.ok());
    CHECK(merged(laid(job, tensors, one), 2).bytes == in_order(one.shape, one.order, 4, plain.bytes));
  }
}

}  // namespace
