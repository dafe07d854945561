// SPDX-License-Identifier: BSD-3-Clause
// Words as sh forms them; every row that sh accepts was given to dash and bash, too.
#include "shell_words.h"

#include <string>
#include <vector>

#include "support/catch.h"

namespace ckpt::cli {
namespace {

using Words = std::vector<std::string>;

TEST_CASE("text is cut into words as a shell does, without its expansions", "[cli][apply]") {
  struct Case {
    const char* text;
    Words words;
  };

  const Case cases[] = {
      {"", {}},
      {" \t\n ", {}},
      {"a", {"a"}},
      {"  filter-keys\t--keep \n conv  ", {"filter-keys", "--keep", "conv"}},
      {"''", {""}},
      {"a '' \"\"", {"a", "", ""}},
      {"'a b'c\"d e\"",
       {"a bc"
        "d e"}},
      {R"('a\b"c')", {R"(a\b"c)"}},
      {R"("a'b")", {"a'b"}},
      {R"("a\"b\\c\$d\`e\fg")", {R"(a"b\c$d`e\fg)"}},
      {R"(a\ b\'c\"d\\e\f)", {R"(a b'c"d\ef)"}},
      {"a\\\nb", {"ab"}},
      {"a \\\n b", {"a", "b"}},
      {"\"a\\\nb\"", {"ab"}},
      {"'a\\\nb'", {"a\\\nb"}},
      {"'re:^(a|b)$=$HOME'", {"re:^(a|b)$=$HOME"}},
      {"re:^(a|b)$ ~ *.weight $HOME `x` #c a;b&c<d>e",
       {"re:^(a|b)$", "~", "*.weight", "$HOME", "`x`", "#c", "a;b&c<d>e"}},
      {"\xc3\xa4\xff \x01", {"\xc3\xa4\xff", "\x01"}},
  };
  for (const auto& [text, words] : cases) {
    CAPTURE(text);
    const auto found = shell_words(text);
    REQUIRE(found.ok());
    CHECK(*found == words);
  }
}

TEST_CASE("a quote without end, and a backslash without anything, are mistakes", "[cli][apply]") {
  struct Case {
    const char* text;
    const char* error;
  };

  const Case cases[] = {
      {"a 'b", "the single quote at column 3 has no end"},
      {"a '", "the single quote at column 3 has no end"},
      {"\"a' \\\"", "the double quote at column 1 has no end"},
      {"a\\", "a backslash has nothing behind it"},
      {"\"a\\", "a backslash has nothing behind it"},
  };
  for (const auto& [text, error] : cases) {
    CAPTURE(text);
    const auto found = shell_words(text);
    REQUIRE_FALSE(found.ok());
    CHECK(found.error().code() == ErrorCode::kUsage);
    CHECK(found.error().text() == error);
  }
}

}  // namespace
}  // namespace ckpt::cli
