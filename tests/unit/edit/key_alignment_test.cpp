// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/key_alignment.h"

#include <vector>

#include "support/catch.h"

using namespace ckpt;

namespace {

using Keys = std::vector<std::string>;

std::string aligned(const Keys& theirs, const Keys& ours) {
  const auto found = align_keys(theirs, ours);
  return "-" + found.strip + " +" + found.add + " " + std::to_string(found.matches);
}

}  // namespace

TEST_CASE("the prefix that makes most keys equal is found", "[edit]") {
  CHECK(aligned({"module.fc.w", "module.a.w"}, {"fc.w", "a.w", "b.w"}) == "-module. + 2");
  CHECK(aligned({"fc.w", "a.w"}, {"model.fc.w", "model.a.w"}) == "- +model. 2");
  CHECK(aligned({"module.fc.w", "module.a.w"}, {"model.fc.w", "model.a.w"}) == "-module. +model. 2");
  CHECK(aligned({"encoder_q.0.w", "encoder_q.1.w", "queue"}, {"0.w", "1.w"}) == "-encoder_q. + 2");
}

TEST_CASE("no prefix is found where names have nothing in common", "[edit]") {
  CHECK(aligned({"a.weight"}, {"b.bias"}) == "- + 0");
  CHECK(aligned({}, {"a"}) == "- + 0");
}
