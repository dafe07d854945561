// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/dense_order.h"

#include "support/catch.h"

using namespace ckpt;

namespace {

using Sizes = std::vector<std::int64_t>;
using Order = std::vector<std::size_t>;

}  // namespace

TEST_CASE("dense strides name an order of dimensions", "[model]") {
  CHECK(dense_order(Sizes{2, 3}, Sizes{}) == Order{0, 1});
  CHECK(dense_order(Sizes{2, 3}, Sizes{3, 1}) == Order{0, 1});
  CHECK(dense_order(Sizes{2, 3}, Sizes{1, 2}) == Order{1, 0});
  CHECK(dense_order(Sizes{2, 3, 4, 4}, Sizes{48, 1, 12, 3}) == Order{0, 2, 3, 1});
  CHECK(dense_order(Sizes{5, 1, 2}, Sizes{1, 999, 5}) == Order{2, 0, 1});
  CHECK(dense_order(Sizes{}, Sizes{}) == Order{});
  CHECK(dense_order(Sizes{0, 3}, Sizes{7, 7}).has_value());
}

TEST_CASE("gaps and repeated elements are not dense", "[model]") {
  CHECK_FALSE(dense_order(Sizes{3}, Sizes{2}));
  CHECK_FALSE(dense_order(Sizes{3, 2}, Sizes{0, 1}));
  CHECK_FALSE(dense_order(Sizes{2, 2}, Sizes{1, 1}));
  CHECK_FALSE(dense_order(Sizes{2, 3}, Sizes{4, 1}));
}
