// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/tensor_statistics.h"

#include <string>
#include <vector>

#include "support/catch.h"
#include "support/checkpoint_builder.h"

using namespace ckpt;
using namespace ckpt::test;

namespace {

std::vector<TensorId> all_of(const Checkpoint& checkpoint) {
  std::vector<TensorId> ids;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) ids.push_back(id);
  return ids;
}

std::vector<TensorStatistics> statistics(const Checkpoint& checkpoint, std::size_t threads) {
  return tensor_statistics(checkpoint, all_of(checkpoint), {3, threads}, nullptr).value();
}

}  // namespace

TEST_CASE("any number of threads finds the same", "[inspect]") {
  const auto checkpoint =
      read_bytes(build_torch_zip("a float32 3000000; b bfloat16 5000000; c float32 7; d int64 1000")).value();
  const auto one = statistics(checkpoint, 1);
  for (const std::size_t threads : {2U, 3U, 8U}) {
    const auto many = statistics(checkpoint, threads);
    for (std::size_t i = 0; i < one.size(); ++i) {
      CAPTURE(threads, i);
      CHECK(many[i].values.mean == one[i].values.mean);
      CHECK(many[i].values.squares == one[i].values.squares);
      CHECK(many[i].values.minimum == one[i].values.minimum);
      CHECK(many[i].values.zeros == one[i].values.zeros);
      REQUIRE(many[i].histogram.has_value() == one[i].histogram.has_value());
      if (one[i].histogram) CHECK(many[i].histogram->counts() == one[i].histogram->counts());
    }
  }
}

TEST_CASE("an expanded tensor costs what its storage costs", "[inspect]") {
  const auto checkpoint = read_bytes(build_torch_zip("a float32 1000000000x2 strides=0x1")).value();
  const auto found = statistics(checkpoint, 2);
  CHECK(found[0].missing.empty());
  CHECK(found[0].values.count == 2'000'000'000);
}

TEST_CASE("tensors without statistics say why", "[inspect]") {
  const auto checkpoint = read_bytes(build_torch_zip("a float32 100x100 strides=1x1 numel=199")).value();
  CHECK(statistics(checkpoint, 1)[0].missing == "overlapping");
}
