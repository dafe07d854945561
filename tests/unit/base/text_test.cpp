// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/base/text.h"

#include <string>
#include <vector>

#include "support/catch.h"

using namespace ckpt;

TEST_CASE("names from files cannot steer a terminal", "[base]") {
  CHECK(printable("layer1.weight") == "layer1.weight");
  CHECK(printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m");
  CHECK(printable("\xc2\x9b") == "\\u009b");
  CHECK(printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(printable("größe") == "größe");
  CHECK(quoted("it's") == "'it\\'s'");
}

TEST_CASE("JSON strings replace what is no UTF-8", "[base]") {
  CHECK(json_string("a\"b\\\n") == R"("a\"b\\\n")");
  CHECK(json_string("\xff") == "\"\xEF\xBF\xBD\"");
  CHECK(json_string("\x01") == "\"\\u0001\"");
}

TEST_CASE("JSON strings of any length escape what has to be, wherever it stands", "[base]") {
  const auto expected = [](const std::string& text) {
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\\\"" : c == '\x7f' ? "\\u007f" : std::string(1, c);
    return out + '"';
  };
  for (std::size_t size = 0; size < 40; ++size) {
    std::string text(size, 'a');
    CHECK(json_string(text) == expected(text));
    CHECK(needs_no_escape(text));
    for (std::size_t at = 0; at < size; ++at) {
      for (const char c : {'"', '\x7f', '\''}) {
        text[at] = c;
        CHECK(json_string(text) == expected(text));
        CHECK_FALSE(needs_no_escape(text));
      }
      text[at] = 'a';
    }
  }
}

TEST_CASE("JSON strings keep characters whole that lie across two pieces", "[base]") {
  for (std::size_t size = 240; size < 270; ++size) {
    const auto text = std::string(size, 'a') + "\U0001F600é€" + std::string(300, 'b');
    CHECK(json_string(text) == '"' + text + '"');
  }
  const std::string stray(300, '\x80');
  CHECK(json_string(stray).size() == 3 * stray.size() + 2);
}

TEST_CASE("UTF-8 is checked as strictly as RFC 3629 says", "[base]") {
  CHECK(is_utf8("aé€𝄞"));
  CHECK_FALSE(is_utf8("\xc0\x80"));
  CHECK_FALSE(is_utf8("\xed\xa0\x80"));
  CHECK_FALSE(is_utf8("\xf4\x90\x80\x80"));
  CHECK_FALSE(is_utf8("\xe2\x82"));
}

TEST_CASE("sizes are read at a glance", "[base]") {
  CHECK(human_bytes(999) == "999 B");
  CHECK(human_bytes(1000) == "1.00 kB");
  CHECK(human_bytes(46'900'000) == "46.9 MB");
  CHECK(human_bytes(999'999) == "1.00 MB");
  CHECK(human_bytes(5'497'558'138'880) == "5.50 TB");
  CHECK(with_separators(1'234'567) == "1,234,567");
  CHECK(with_separators(12) == "12");
  CHECK(counted(1, "tensor") == "1 tensor");
  CHECK(counted(2, "key") == "2 keys");
  CHECK(counted(2000, "entry") == "2,000 entries");
}

TEST_CASE("a typo finds its neighbour and nothing far away", "[base]") {
  const std::vector<std::string> names = {"layer1.weight", "layer2.weight", "fc.bias"};
  CHECK(nearest("fc.bais", names) == "fc.bias");
  CHECK(nearest("optimizer_state_dict", names).empty());
  const std::vector<std::string> words = {"bool", "tol"};
  CHECK(nearest("foo", words).empty());
  CHECK(nearest("tal", words) == "tol");
  CHECK(nearest("boll", words) == "bool");
}
