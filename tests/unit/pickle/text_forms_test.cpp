// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/pickle/text_forms.h"

#include <string>

#include "support/catch.h"

using namespace ckpt;

TEST_CASE("raw-unicode-escape is what Python writes and reads", "[pickle]") {
  // >>> pickle.dumps('größe\\\n€𝄞\ud800\0\r\x1a', 0)
  const std::string text = std::string("größe\\\n€𝄞\xed\xa0\x80") + '\0' + "\r\x1a";
  const std::string spelled =
      "gr\xf6\xdf"
      "e\\u005c\\u000a\\u20ac\\U0001d11e\\ud800\\u0000\\u000d\\u001a";
  CHECK(to_raw_unicode_escape(text) == spelled);
  CHECK(from_raw_unicode_escape(spelled) == text);
}

TEST_CASE("escapes that are cut short have no value", "[pickle]") {
  CHECK(from_raw_unicode_escape("\\u12") == std::nullopt);
  CHECK(from_raw_unicode_escape("\\u12g4") == std::nullopt);
  CHECK(from_raw_unicode_escape("\\U00110000") == std::nullopt);
  CHECK(from_raw_unicode_escape("\\n") == "\\n");
  CHECK(from_python_literal("'\\x4'") == std::nullopt);
  CHECK(from_python_literal("'a") == std::nullopt);
  CHECK(from_python_literal("'") == std::nullopt);
  CHECK(from_python_literal("") == std::nullopt);
  CHECK(from_python_literal("'\\q'") == "\\q");
  CHECK(from_python_literal("'\\1234'") == "S4");
}

TEST_CASE("two surrogates of protocol 0 are one character", "[pickle]") {
  CHECK(from_raw_unicode_escape("\\ud834\\udd1e") == "𝄞");  // written by narrow builds of Python 2
  CHECK(from_raw_unicode_escape("\\ud834x") == "\xed\xa0\xb4x");
}

TEST_CASE("bytes that are no UTF-8 count as Latin-1", "[pickle]") {
  CHECK(latin1_to_utf8("\xe4\x80") == "ä\xc2\x80");
  CHECK(to_raw_unicode_escape("\xff"
                              "a\xe2\x82") ==
        "\xff"
        "a\xe2\x82");
  CHECK(to_raw_unicode_escape("\xc3") == "\xc3");
}
