// SPDX-License-Identifier: BSD-3-Clause
#include "shell_words.h"

#include <fmt/format.h>

namespace ckpt::cli {
namespace {

/// What stands behind the backslash at text[at]; moves on behind both.
Status take_escaped(std::string_view text, std::size_t& at, bool in_quotes, std::string& word) {
  constexpr std::string_view kEscapedInQuotes = "\"\\$`\n";
  if (at + 1 == text.size()) return Error(ErrorCode::kUsage, "a backslash has nothing behind it");
  const char next = text[at + 1];
  if (in_quotes && kEscapedInQuotes.find(next) == kEscapedInQuotes.npos) word += '\\';
  if (next != '\n') word += next;
  at += 2;
  return {};
}

/// From the quote at text[at] to the one that ends it; moves on behind it.
Status take_quoted(std::string_view text, std::size_t& at, std::string& word) {
  const auto begin = at;
  const char quote = text[at++];
  while (at < text.size() && text[at] != quote) {
    if (quote == '"' && text[at] == '\\') {
      CKPT_RETURN_IF_ERROR(take_escaped(text, at, true, word));
    } else {
      word += text[at++];
    }
  }
  if (at == text.size()) {
    return Error(ErrorCode::kUsage, fmt::format("the {} quote at column {} has no end",
                                                quote == '"' ? "double" : "single", begin + 1));
  }
  ++at;
  return {};
}

}  // namespace

Result<std::vector<std::string>> shell_words(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n";
  std::vector<std::string> words;
  bool in_word = false;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (kBlanks.find(c) != kBlanks.npos) {
      in_word = false;
      ++at;
      continue;
    }
    if (text.substr(at).starts_with("\\\n")) {  // joins lines, and begins no word
      at += 2;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (c == '\'' || c == '"') {
      CKPT_RETURN_IF_ERROR(take_quoted(text, at, words.back()));
    } else if (c == '\\') {
      CKPT_RETURN_IF_ERROR(take_escaped(text, at, false, words.back()));
    } else {
      words.back() += c;
      ++at;
    }
  }
  return words;
}

}  // namespace ckpt::cli
