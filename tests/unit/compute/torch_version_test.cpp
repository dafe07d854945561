// SPDX-License-Identifier: BSD-3-Clause
// Which releases of PyTorch can be named, and how.
#include "ckpt/compute/torch_version.h"

#include "support/catch.h"

using namespace ckpt;

namespace {

TEST_CASE("a release is named by two numbers, and may say more", "[compute]") {
  for (const auto* text : {"2.11", "2.11.0", "2.11.0+cu128", "2.11.0a0+git1234"}) {
    CAPTURE(text);
    const auto version = parse_torch_version(text);
    REQUIRE(version.ok());
    CHECK(*version == TorchVersion{2, 11});
  }
  CHECK(*parse_torch_version("1.13.0a0") == kOldestComputedTorch);
  CHECK(*parse_torch_version("2.15") == kNewestComputedTorch);
  CHECK(*parse_torch_version("2.0") > kOldestComputedTorch);
}

TEST_CASE("what is no release is refused", "[compute]") {
  for (const auto* text : {"", "2", "2.", "newest", ".5", "2.x", "-2.1", "2.1-3", "v2.1", "99999999999.1"}) {
    CAPTURE(text);
    const auto version = parse_torch_version(text);
    REQUIRE(!version.ok());
    CHECK(version.error().code() == ErrorCode::kUsage);
    CHECK(version.error().text() ==
          "'" + std::string(text) + "' is not a version of PyTorch: expected two numbers, as in '2.15'");
  }
}

TEST_CASE("a release that was never compared is refused", "[compute]") {
  for (const auto* text : {"0.4", "1.12", "1.14", "2.16", "3.0"}) {
    CAPTURE(text);
    const auto version = parse_torch_version(text);
    REQUIRE(!version.ok());
    CHECK(version.error().code() == ErrorCode::kUsage);
    CHECK(version.error().text() ==
          "PyTorch " + std::string(text) + " is not known here: expected 1.13, or 2.0 to 2.15");
  }
}

}  // namespace
