// SPDX-License-Identifier: BSD-3-Clause
#include "modules/cuda/plan_gather.h"

#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "support/catch.h"
#include "support/gather_cases.h"
#include "support/run_launches.h"

namespace ckpt::cuda {
namespace {

using test::Random;

Bytes gathered_by_launches(const CkptGather& gather, const Bytes& source, const Bytes& background) {
  auto target = background;
  const auto launches = plan_gather(gather, source.data(), target.data());
  REQUIRE(launches.ok());
  for (const auto& launch : launches.value()) test::run_launch(launch);
  return target;
}

TEST_CASE("a division by a product is a division", "[modules]") {
  for (const std::uint32_t by : {1U, 2U, 3U, 5U, 7U, 64U, 641U, 65537U, 0x40000001U, 0x7fffffffU}) {
    const Divider divider(by);
    for (const std::uint32_t number : {0U, 1U, by - 1, by, by + 1, 1000000007U, 0x7ffffffeU, 0x7fffffffU}) {
      if (number < 0x80000000U) CHECK(divider.quotient(number) == number / by);
    }
  }
}

TEST_CASE("launches gather what a loop gathers, and touch nothing else", "[modules]") {
  Random random(20261127);
  int turned = 0;
  int grouped = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto gather = test::random_gather(random, 1 + test::below(random, 3000));
    INFO(round << ": " << test::text_of(gather));
    const auto source = test::random_bytes(random, test::reach(gather, gather.from, gather.source_dtype));
    auto expected = test::random_bytes(random, test::reach(gather, gather.to, gather.target_dtype));
    const auto found = gathered_by_launches(gather, source, expected);
    test::gather_slowly(gather, source.data(), expected.data());
    REQUIRE(found == expected);
    const auto reach = reach_of(gather);
    REQUIRE(reach.ok());
    CHECK(reach.value().from == source.size());
    CHECK(reach.value().to == expected.size());
    const auto launches = plan_gather(gather, source.data(), expected.data());
    for (const auto& launch : launches.value()) {
      turned += std::holds_alternative<TurnLaunch>(launch) ? 1 : 0;
      const auto* const group = std::get_if<GroupLaunch>(&launch);
      grouped += group != nullptr && group->group > 1 ? 1 : 0;
    }
  }
  CHECK(turned > 100);
  CHECK(grouped > 100);
}

TEST_CASE("launches of more than 2^31 steps are cut into pieces that cover all", "[modules]") {
  CkptGather gather{};
  gather.rank = 2;
  gather.source_dtype = CKPT_UINT8;
  gather.target_dtype = CKPT_BOOL;
  gather.sizes[0] = 3;
  gather.sizes[1] = 3000000007;
  gather.from[0] = 4000000000;
  gather.from[1] = 1;
  gather.to[0] = 3000000100;
  gather.to[1] = 1;
  const auto launches = plan_gather(gather, nullptr, nullptr);
  REQUIRE(launches.ok());
  std::uint64_t elements = 0;
  for (const auto& launch : launches.value()) {
    const auto& group = std::get<GroupLaunch>(launch);
    elements += std::uint64_t{group.walk.count} * group.group;
    CHECK(group.walk.count < 0x80000000U);
  }
  CHECK(elements == 3 * gather.sizes[1]);
  CHECK(launches.value().size() <= 12);
}

TEST_CASE("launches give what a gathered source gives", "[modules]") {
  Random random(7);
  for (const auto& [from, to, code_from, code_to] :
       {std::tuple{Dtype::kFloat32, Dtype::kBfloat16, CKPT_FLOAT32, CKPT_BFLOAT16},
        std::tuple{Dtype::kFloat16, Dtype::kFloat16, CKPT_FLOAT16, CKPT_FLOAT16},
        std::tuple{Dtype::kInt64, Dtype::kFloat64, CKPT_INT64, CKPT_FLOAT64}}) {
    for (const bool is_swapped : {false, true}) {
      const auto item = dtype_info(from).item_size;
      const auto bytes = test::random_bytes(random, std::size_t{60 * 70 * 3} * item);
      Gather gather;
      gather.source = std::make_shared<MemorySource>("values", bytes);
      gather.shape = {3, 70, 60};
      gather.strides = {1, 3, 210};
      gather.from = from;
      gather.to = to;
      gather.swapped = is_swapped;
      CkptGather same{};
      same.rank = 3;
      same.swap = is_swapped ? item : 0;
      same.source_dtype = code_from;
      same.target_dtype = code_to;
      std::uint64_t stride = 1;
      for (std::size_t i = 3; i-- > 0;) {
        same.sizes[i] = static_cast<std::uint64_t>(gather.shape[i]);
        same.from[i] = static_cast<std::uint64_t>(gather.strides[i]);
        same.to[i] = stride;
        stride *= same.sizes[i];
      }
      GatheredSource source("gathered");
      Bytes expected(source.add(gather).size);
      REQUIRE(source.read_at(0, expected).ok());
      CHECK(gathered_by_launches(same, bytes, Bytes(expected.size())) == expected);
    }
  }
}

TEST_CASE("what no kernel can do is declined", "[modules]") {
  CkptGather gather{};
  gather.rank = CKPT_MAX_RANK + 1;
  gather.source_dtype = gather.target_dtype = CKPT_FLOAT32;
  CHECK(plan_gather(gather, nullptr, nullptr).error().code() == ErrorCode::kUnsupported);
  gather.rank = 0;
  gather.target_dtype = CKPT_OPAQUE_4;
  CHECK(plan_gather(gather, nullptr, nullptr).error().code() == ErrorCode::kUnsupported);
  gather.target_dtype = CKPT_FLOAT32;
  gather.swap = 3;
  CHECK(plan_gather(gather, nullptr, nullptr).error().code() == ErrorCode::kUnsupported);
  gather.swap = 0;
  gather.source_dtype = gather.target_dtype = 9;
  CHECK(plan_gather(gather, nullptr, nullptr).error().code() == ErrorCode::kUnsupported);
  gather.source_dtype = gather.target_dtype = CKPT_FLOAT32;
  gather.rank = 2;
  gather.sizes[0] = gather.sizes[1] = std::uint64_t{1} << 40U;
  gather.from[0] = gather.from[1] = std::uint64_t{1} << 40U;
  CHECK(reach_of(gather).error().code() == ErrorCode::kUnsupported);
}

TEST_CASE("rows come from where the table says", "[modules]") {
  Random random(3);
  for (const std::uint64_t row_bytes : {16U, 24U, 6U, 7U, 1U}) {
    const auto source = test::random_bytes(random, 10 * (row_bytes + 2));
    const std::vector<std::int64_t> table = {3, -1, 9, 0, 0};
    auto target = test::random_bytes(random, table.size() * row_bytes);
    auto expected = target;
    for (std::size_t i = 0; i < table.size(); ++i) {
      if (table[i] < 0) continue;
      std::memcpy(expected.data() + i * row_bytes,
                  source.data() + static_cast<std::uint64_t>(table[i]) * (row_bytes + 2), row_bytes);
    }
    CkptRows rows{};
    rows.rows = table.size();
    rows.row_bytes = row_bytes;
    rows.source_step = row_bytes + 2;
    rows.target_step = row_bytes;
    const auto launch = plan_rows(rows, source.data(), target.data(), table.data());
    REQUIRE(launch.ok());
    test::run_launch(launch.value());
    CHECK(target == expected);
  }
}

}  // namespace
}  // namespace ckpt::cuda
