// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_value.h"

#include "support/catch.h"

using namespace ckpt;

namespace {

MergeValue parsed(std::string_view text) {
  auto value = parse_merge_value(text);
  REQUIRE(value.ok());
  return std::move(value).value();
}

}  // namespace

TEST_CASE("a value is a number, or one for each file, or a list over the layers", "[edit]") {
  CHECK(parsed("0.5").files == std::vector<std::vector<double>>{{0.5}});
  CHECK(parsed("0.5, -2e3").files == std::vector<std::vector<double>>{{0.5}, {-2000}});
  CHECK(parsed("[0, 0.5,1],3").files == std::vector<std::vector<double>>{{0, 0.5, 1}, {3}});
  CHECK(parsed("[4]").files == std::vector<std::vector<double>>{{4}});
  CHECK(parsed("yes,false,+1").files == std::vector<std::vector<double>>{{1}, {0}, {1}});
}

TEST_CASE("its text gives the same value again", "[edit]") {
  for (const auto* text : {"0.5", "0.1,0.2", "[0,0.5,1],3", "1e-08", "-7"})
    CHECK(merge_value_text(parsed(text)) == text);
}

TEST_CASE("what is no value is told with what is wrong", "[edit]") {
  for (const auto* text :
       {"", ",", "1,", "[", "[]", "[1", "1]", "[[1]]", "x", "nan", "inf", "1e999", "0x1"}) {
    INFO(text);
    CHECK_FALSE(parse_merge_value(text).ok());
  }
  CHECK(parse_merge_value("0.5,x").error().message() == "'0.5,x': expected a number, found 'x'");
  CHECK(parse_merge_value("[1,2").error().message() == "'[1,2': expected ']' at its end");
}

TEST_CASE("between the points of a list a value lies on a line, or stays at the point before", "[edit]") {
  const auto value = parsed("[0,1,3],5");
  CHECK(value.at(0, 0, false) == 0);
  CHECK(value.at(0, 0.25, false) == 0.5);
  CHECK(value.at(0, 0.75, false) == 2);
  CHECK(value.at(0, 1, false) == 3);
  CHECK(value.at(0, 0.75, true) == 1);
  CHECK(value.at(0, 1, true) == 3);
  CHECK(value.at(1, 0.4, false) == 5);
  CHECK(parsed("7").at(3, 0.4, false) == 7);
}
