// SPDX-License-Identifier: BSD-3-Clause
// How methods of initialisation are written.
#include "ckpt/compute/init_method.h"

#include <string>
#include <utility>
#include <vector>

#include "support/catch.h"

using namespace ckpt;

namespace {

using Kind = InitMethod::Kind;
using Fan = InitMethod::Fan;

TEST_CASE("each method is read, with and without its argument", "[compute]") {
  const std::vector<std::pair<std::string, InitMethod>> cases = {
      {"default", {Kind::kDefault, std::nullopt, Fan::kIn}},
      {"zeros", {Kind::kZeros, std::nullopt, Fan::kIn}},
      {"normal", {Kind::kNormal, std::nullopt, Fan::kIn}},
      {"normal:0.02", {Kind::kNormal, 0.02, Fan::kIn}},
      {"normal:0", {Kind::kNormal, 0.0, Fan::kIn}},
      {"trunc-normal:1e-3", {Kind::kTruncNormal, 1e-3, Fan::kIn}},
      {"xavier-uniform:2", {Kind::kXavierUniform, 2.0, Fan::kIn}},
      {"xavier-normal", {Kind::kXavierNormal, std::nullopt, Fan::kIn}},
      {"kaiming-uniform", {Kind::kKaimingUniform, std::nullopt, Fan::kIn}},
      {"kaiming-uniform:fan-in", {Kind::kKaimingUniform, std::nullopt, Fan::kIn}},
      {"kaiming-normal:fan-out", {Kind::kKaimingNormal, std::nullopt, Fan::kOut}},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    const auto method = parse_init_method(text);
    REQUIRE(method.ok());
    CHECK(*method == expected);
  }
}

TEST_CASE("an unknown method is answered with all there are", "[compute]") {
  const auto method = parse_init_method("kaiming-unifrom:fan-in");
  REQUIRE(!method.ok());
  CHECK(method.error().code() == ErrorCode::kUsage);
  CHECK(method.error().text() ==
        "unknown initialisation 'kaiming-unifrom': expected one of default, zeros, normal[:STD], "
        "trunc-normal[:STD], xavier-uniform[:GAIN], xavier-normal[:GAIN], kaiming-uniform[:fan-in|fan-out], "
        "kaiming-normal[:fan-in|fan-out]");
  CHECK(method.error().hint() == "did you mean 'kaiming-uniform'?");
  CHECK(parse_init_method("").error().hint().empty());
}

TEST_CASE("an argument that a method can't take is refused with what it takes", "[compute]") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"default:1", "initialisation 'default' can't take the argument '1': expected none"},
      {"zeros:", "initialisation 'zeros' can't take the argument '': expected none"},
      {"normal:",
       "initialisation 'normal' can't take the argument '': expected STD, a number that is not negative"},
      {"normal:-1",
       "initialisation 'normal' can't take the argument '-1': expected STD, a number that is not negative"},
      {"normal:1x",
       "initialisation 'normal' can't take the argument '1x': expected STD, a number that is not negative"},
      {"normal:inf",
       "initialisation 'normal' can't take the argument 'inf': expected STD, a number that is not negative"},
      {"trunc-normal:0",
       "initialisation 'trunc-normal' can't take the argument '0': expected STD, a positive number"},
      {"xavier-normal:nan",
       "initialisation 'xavier-normal' can't take the argument 'nan': expected GAIN, a number that is not "
       "negative"},
      {"kaiming-normal:fan_in",
       "initialisation 'kaiming-normal' can't take the argument 'fan_in': expected fan-in or fan-out"},
  };
  for (const auto& [text, message] : cases) {
    CAPTURE(text);
    const auto method = parse_init_method(text);
    REQUIRE(!method.ok());
    CHECK(method.error().code() == ErrorCode::kUsage);
    CHECK(method.error().text() == message);
  }
}

}  // namespace
