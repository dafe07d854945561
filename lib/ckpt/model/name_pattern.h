// SPDX-License-Identifier: BSD-3-Clause
// Patterns over the keys of state dicts, as every command takes them:
//
//   fc.weight     exactly this key; a name that is a module's covers all keys below it
//   **.bias       a glob: '*' and '?' stop at a dot, '**' does not
//   =a*b          exactly this key, whatever it contains
//   re:^layer[12] a regular expression in RE2's syntax, unanchored
//   !PATTERN      every key that PATTERN does not match
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
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

  std::string text_;
  std::string body_;  ///< without prefixes
  Kind kind_ = Kind::kExact;
  bool negated_ = false;
  std::shared_ptr<const Expression> expression_;
};

/// kNotFound for a pattern that matches none of `names`, with a wider pattern in the message or the nearest
/// name as the hint. Names beyond a few thousand are not looked at.
CKPT_EXPORT Error unmatched(const NamePattern& pattern, std::vector<std::string> names);

}  // namespace ckpt
