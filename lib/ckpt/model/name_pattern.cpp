// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/name_pattern.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include <fmt/format.h>
#include <re2/re2.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

constexpr int kGroups = 10;  // \0 to \9

/// A glob as an anchored regular expression with a group for each wildcard.
std::string glob_to_regex(std::string_view glob) {
  std::string out = "(?s)^";
  for (std::size_t i = 0; i < glob.size(); ++i) {
    if (glob.substr(i).starts_with("**")) {
      out += "(.*)";
      ++i;
    } else if (glob[i] == '*') {
      out += "([^.]*)";
    } else if (glob[i] == '?') {
      out += "([^.])";
    } else {
      out += RE2::QuoteMeta(re2::StringPiece(glob.data() + i, 1));
    }
  }
  return out + '$';
}

re2::StringPiece piece(std::string_view text) {
  return {text.data(), text.size()};
}

/// In a glob's replacement, wildcards stand for what they matched, in order. `group`: how many there are.
std::string wildcards_to_groups(std::string_view replacement, int& group) {
  std::string out;
  for (std::size_t i = 0; i < replacement.size(); ++i) {
    if (replacement[i] == '\\' && i + 1 < replacement.size()) {
      out += replacement.substr(i, 2);
      ++i;
      continue;
    }
    if (replacement[i] != '*' && replacement[i] != '?') {
      out += replacement[i];
      continue;
    }
    if (replacement.substr(i).starts_with("**")) ++i;
    out += fmt::format("\\{}", ++group);
  }
  return out;
}

}  // namespace

class NamePattern::Expression {
 public:
  Expression(const std::string& regex, const RE2::Options& options) : re2(regex, options) {}

  RE2 re2;
};

NamePattern NamePattern::exact(std::string_view key) {
  NamePattern pattern;
  pattern.text_ = '=' + std::string(key);
  pattern.body_ = key;
  return pattern;
}

Result<NamePattern> NamePattern::parse(std::string_view text) {
  NamePattern pattern;
  pattern.text_ = text;
  auto body = text;
  if (body.starts_with('!')) {
    pattern.negated_ = true;
    body.remove_prefix(1);
  }
  if (body.empty())
    return Error(ErrorCode::kUsage, "a pattern is empty").with_hint("to name the empty key, write '='");
  RE2::Options options;
  options.set_log_errors(false);
  if (body.starts_with('=')) {
    pattern.body_ = body.substr(1);
    return pattern;
  }
  if (body.starts_with("re:")) {
    pattern.kind_ = Kind::kRegex;
    pattern.body_ = body.substr(3);
    pattern.expression_ = std::make_shared<Expression>(pattern.body_, options);
    if (!pattern.expression_->re2.ok()) {
      return Error(ErrorCode::kUsage, fmt::format("{} is no regular expression: {}", quoted(pattern.body_),
                                                  pattern.expression_->re2.error()));
    }
    return pattern;
  }
  pattern.body_ = body;
  pattern.kind_ = body.find_first_of("*?") == body.npos ? Kind::kLiteral : Kind::kGlob;
  if (pattern.kind_ == Kind::kGlob) {
    options.set_encoding(RE2::Options::EncodingLatin1);  // bytes: keys need not be UTF-8
    pattern.expression_ = std::make_shared<Expression>(glob_to_regex(body), options);
  }
  return pattern;
}

bool NamePattern::matches(std::string_view key) const {
  bool found = false;
  switch (kind_) {
    case Kind::kExact: found = key == body_; break;
    case Kind::kLiteral:
      found = key.starts_with(body_) && (key.size() == body_.size() || key[body_.size()] == '.');
      break;
    case Kind::kGlob:
    case Kind::kRegex: found = RE2::PartialMatch(piece(key), expression_->re2); break;
  }
  return found != negated_;
}

std::string NamePattern::replace(std::string_view key, std::string_view replacement) const {
  if (negated_ || !matches(key)) return std::string(key);
  std::string out(key);
  switch (kind_) {
    case Kind::kExact: return std::string(replacement);
    case Kind::kLiteral: {
      auto rest = key.substr(body_.size());
      if (replacement.empty() && rest.starts_with('.')) rest.remove_prefix(1);
      return std::string(replacement) + std::string(rest);
    }
    case Kind::kGlob: {
      int wildcards = 0;
      RE2::Replace(&out, expression_->re2, wildcards_to_groups(replacement, wildcards));
      return out;
    }
    case Kind::kRegex: RE2::GlobalReplace(&out, expression_->re2, piece(replacement)); return out;
  }
  return out;
}

Status NamePattern::check_replacement(std::string_view replacement) const {
  if (!expression_) return {};
  const auto refuse = [&](std::string_view why) {
    return Error(ErrorCode::kUsage, fmt::format("{} can't stand for what {} matches: {}", quoted(replacement),
                                                quoted(text_), why));
  };
  const auto& expression = expression_->re2;
  std::string groups(replacement);
  if (kind_ == Kind::kGlob) {
    int wildcards = 0;
    groups = wildcards_to_groups(replacement, wildcards);
    if (wildcards > expression.NumberOfCapturingGroups()) return refuse("it has more wildcards");
    if (wildcards >= kGroups) return refuse(fmt::format("it has more than {} wildcards", kGroups - 1));
  }
  if (const auto group = RE2::MaxSubmatch(piece(groups)); group > expression.NumberOfCapturingGroups())
    return refuse(fmt::format("there is no group \\{}", group));
  std::string ignored;
  if (!expression.CheckRewriteString(piece(groups), &ignored))
    return refuse(R"(behind \ stands a digit or another \)");
  return {};
}

std::optional<std::string> NamePattern::captured(std::string_view key) const {
  if (kind_ != Kind::kRegex || negated_) return std::nullopt;
  std::array<re2::StringPiece, 2> groups;
  const auto& expression = expression_->re2;
  const int count = expression.NumberOfCapturingGroups() > 0 ? 2 : 1;
  if (!expression.Match(piece(key), 0, key.size(), RE2::UNANCHORED, groups.data(), count))
    return std::nullopt;
  const auto& found = groups[static_cast<std::size_t>(count - 1)];
  return std::string(found.data() == nullptr ? "" : found.data(), found.size());
}

void PatternIndex::add(const NamePattern& pattern) {
  const auto number = size_++;
  if (!pattern.is_name()) {
    others_.emplace_back(number, &pattern);
  } else if (pattern.kind_ == NamePattern::Kind::kExact) {
    keys_[pattern.body_].push_back(number);
  } else {
    modules_[pattern.body_].push_back(number);
  }
}

std::string NamePattern::wider() const {
  if (kind_ == Kind::kGlob) {
    std::string out = negated_ ? "!" : "";
    for (std::size_t i = 0; i < body_.size(); ++i) {
      if (body_.compare(i, 2, "**") == 0) ++i;
      if (body_[i] == '*') {
        out += "**";
      } else {
        out += body_[i];
      }
    }
    return out == text_ ? std::string() : out;
  }
  return kind_ == Kind::kLiteral && !negated_ ? "**" + body_ + "**" : std::string();
}

namespace {

constexpr std::size_t kSuggestFrom = 5000;  // names looked at for a suggestion

/// The names of modules are patterns too.
void add_modules(std::vector<std::string>& names) {
  std::unordered_set<std::string> modules;
  for (std::string_view name : names) {
    for (auto dot = name.rfind('.'); dot != name.npos; dot = name.rfind('.')) {
      name = name.substr(0, dot);
      if (!modules.emplace(name).second) break;
    }
  }
  names.insert(names.end(), modules.begin(), modules.end());
  std::sort(names.begin(), names.end());  // the same suggestion on every machine
}

}  // namespace

Error unmatched(const NamePattern& pattern, std::vector<std::string> names) {
  names.resize(std::min(names.size(), kSuggestFrom));
  const auto message = fmt::format("{} matches no key", quoted(pattern.text()));
  if (const auto wider = pattern.wider(); !wider.empty()) {
    const auto parsed = NamePattern::parse(wider);
    const auto count = parsed.ok() ? std::count_if(names.begin(), names.end(),
                                                   [&](const auto& name) { return parsed->matches(name); })
                                   : 0;
    if (count > 0) {
      return Error(ErrorCode::kNotFound, fmt::format("{}; {} would match {}", message, quoted(wider), count));
    }
  }
  add_modules(names);
  Error error(ErrorCode::kNotFound, message);
  const auto near = nearest(pattern.text(), names);
  return near.empty() ? std::move(error)
                      : std::move(error).with_hint(fmt::format("did you mean {}?", quoted(near)));
}

}  // namespace ckpt
