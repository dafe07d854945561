// SPDX-License-Identifier: BSD-3-Clause
// Patterns over the keys of state dicts, as every command takes them:
//
//   fc.weight     exactly this key; a name that is a module's covers all keys below it
//   **.bias       a glob: '*' and '?' stop at a dot, '**' does not
//   =a*b          exactly this key, whatever it contains
//   re:^layer[12] a regular expression in RE2's syntax, unanchored
//   !PATTERN      every key that PATTERN does not match
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

class CKPT_EXPORT NamePattern {
 public:
  /// Errors: kUsage for a regular expression that is none, with its own message, and for an empty pattern.
  static Result<NamePattern> parse(std::string_view text);
  /// The pattern `=key`.
  static NamePattern exact(std::string_view key);

  bool matches(std::string_view key) const;

  /// As the user wrote it.
  const std::string& text() const { return text_; }

  bool negated() const { return negated_; }

  /// Is it the name of a key or module?
  bool is_name() const { return !negated_ && (kind_ == Kind::kExact || kind_ == Kind::kLiteral); }

  /// The key after replacing what the pattern matches: a literal replaces the key or the module's part of it,
  /// a glob the whole key ('*', '**' and '?' in `replacement` stand for what the same wildcard matched, as
  /// do \1 to \9), a regular expression every match (with \0 to \9). The key itself where nothing matches.
  std::string replace(std::string_view key, std::string_view replacement) const;

  /// Can `replace` take it? Errors: kUsage for more wildcards or another group than the pattern has, and for
  /// a backslash before anything but a digit or another one.
  Status check_replacement(std::string_view replacement) const;

  /// What the first group of a regular expression matched, or all that it matched where it has none. Nothing
  /// where the key does not match, and for other patterns.
  std::optional<std::string> captured(std::string_view key) const;

  /// A wider pattern worth suggesting when this one matches nothing; empty if there is none.
  std::string wider() const;

 private:
  enum class Kind { kExact, kLiteral, kGlob, kRegex };
  class Expression;  // hides RE2
  friend class PatternIndex;

  std::string text_;
  std::string body_;  ///< without prefixes
  Kind kind_ = Kind::kExact;
  bool negated_ = false;
  std::shared_ptr<const Expression> expression_;
};

/// Many patterns at once. Names of keys and modules are looked up, only the others are tried one by one.
class CKPT_EXPORT PatternIndex {
 public:
  PatternIndex() = default;

  /// Of patterns that must outlive this.
  explicit PatternIndex(const std::vector<NamePattern>& patterns) {
    for (const auto& pattern : patterns) add(pattern);
  }

  /// The first one has the number 0. The pattern must outlive this.
  void add(const NamePattern& pattern);

  /// Calls f(number) for each pattern that matches, in no order.
  template <typename F>
  void for_matches(std::string_view key, F f) const {
    call(keys_, key, f);
    call(modules_, key, f);
    if (!modules_.empty()) {
      for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.', dot + 1))
        call(modules_, key.substr(0, dot), f);
    }
    for (const auto& [number, pattern] : others_) {
      if (pattern->matches(key)) f(number);
    }
  }

 private:
  using Numbers = std::unordered_map<std::string_view, std::vector<std::size_t>>;

  template <typename F>
  static void call(const Numbers& numbers, std::string_view name, F& f) {
    const auto found = numbers.find(name);
    if (found == numbers.end()) return;
    for (const auto number : found->second) f(number);
  }

  Numbers keys_;     ///< patterns that are exactly this key
  Numbers modules_;  ///< this key or all below it
  std::vector<std::pair<std::size_t, const NamePattern*>> others_;
  std::size_t size_ = 0;
};

/// kNotFound for a pattern that matches none of `names`, with a wider pattern in the message or the nearest
/// name as the hint. Names beyond a few thousand are not looked at.
CKPT_EXPORT Error unmatched(const NamePattern& pattern, std::vector<std::string> names);

}  // namespace ckpt
