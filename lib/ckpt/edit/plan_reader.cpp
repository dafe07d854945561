// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/json_tape.h"
#include "ckpt/edit/plan_fields.h"
#include "ckpt/edit/plan_json.h"

namespace ckpt {
namespace plan_text {
namespace {

class Reader {
 public:
  static constexpr bool kReads = true;
  using Kind = JsonTape::Kind;
  using Index = JsonTape::Index;

  explicit Reader(const JsonTape& tape) : tape_(tape) {}

  /// The first mistake; what is read after it has no meaning.
  std::optional<Error>& error() { return error_; }

  template <typename T, typename... Check>
  void field(std::string_view name, T& value, Check... check) {
    if (const auto at = member(name)) read_member(name, *at, value, check...);
  }

  /// Where it may be missing, it is not null.
  template <typename T>
  void field(std::string_view name, std::optional<T>& value) {
    if (const auto at = member(name)) read_member(name, *at, value.emplace());
  }

  template <typename T, typename... Check>
  void required(std::string_view name, T& value, Check... check) {
    const auto at = member(name);
    if (!at) return lacks("a field " + quoted(name));
    read_member(name, *at, value, check...);
  }

  template <typename T>
  void one_of(std::initializer_list<std::string_view> names, std::size_t& which, T& value) {
    std::vector<std::string> missing;
    std::size_t given = 0;
    for (const auto* name = names.begin(); name != names.end(); ++name) {
      missing.push_back(quoted(*name));
      const auto at = member(*name);
      if (!at) continue;
      ++given;
      which = static_cast<std::size_t>(name - names.begin());
      read_member(*name, *at, value);
    }
    if (given != 1)
      lacks(fmt::format("{} of the fields {}", given == 0 ? "one" : "only one", fmt::join(missing, ", ")));
  }

  /// Said after unknown fields, which may be why.
  void expect(bool holds, std::string_view what) {
    if (!holds && complaint_.empty()) complaint_ = fmt::format("expected {}", what);
  }

  void require(const Status& status) {
    if (!status.ok()) fail(status.error().message(), status.error().code(), status.error().hint());
  }

  void unknown(std::string_view what, const std::string& name, const std::vector<std::string>& known) {
    const auto near = nearest(name, known);
    fail(fmt::format("unknown {} {}", what, quoted(name)), ErrorCode::kUsage,
         near.empty() ? fmt::format("known: {}", fmt::join(known, ", "))
                      : fmt::format("did you mean {}?", quoted(near)));
  }

  void other_schema(const std::string& found) {
    const bool is_later = found.starts_with("ckpt.plan/");
    fail(fmt::format("schema: expected {}, found {}", quoted(kSchema), quoted(found)),
         is_later ? ErrorCode::kUnsupported : ErrorCode::kUsage,
         is_later ? "another version of ckpt wrote this plan" : "this is no plan as --print-plan prints it");
  }

  template <typename T>
  T value_of(Result<T> result) {
    if (result.ok()) return std::move(result).value();
    fail(result.error().message(), result.error().code(), result.error().hint());
    return T();
  }

  /// A record.
  template <typename T>
  void read(Index at, T& value) {
    if (!is(at, Kind::kObject, "an object")) return;
    const auto object = std::exchange(object_, at);
    auto known = std::exchange(known_, {});
    auto complaint = std::exchange(complaint_, {});
    fields(*this, value);
    if (!error_) check_names();
    if (!error_ && !complaint_.empty()) fail(complaint_);
    object_ = object;
    known_ = std::move(known);
    complaint_ = std::move(complaint);
  }

 private:
  void fail(const std::string& message, ErrorCode code = ErrorCode::kUsage, std::string_view hint = {}) {
    if (error_) return;
    error_ = Error(code, path_.empty() ? message : fmt::format("{}: {}", path_, message)).with_hint(hint);
  }

  bool is(Index at, Kind kind, std::string_view expected) {
    const bool right = tape_.kind(at) == kind;
    if (!right) fail(fmt::format("expected {}, found {}", expected, tape_.describe(at)));
    return right && !error_;
  }

  /// Of the object that is being read.
  std::optional<Index> member(std::string_view name) {
    known_.emplace_back(name);
    for (auto at = object_ + 1; at < tape_.end(object_); at = tape_.end(at + 1)) {
      if (tape_.string(at) == name) return at + 1;
    }
    return std::nullopt;
  }

  void check_names() {
    std::vector<std::string_view> seen;
    for (auto at = object_ + 1; at < tape_.end(object_); at = tape_.end(at + 1)) {
      const auto name = tape_.string(at);
      if (std::find(known_.begin(), known_.end(), name) == known_.end())
        return unknown("field", std::string(name), known_);
      if (std::find(seen.begin(), seen.end(), name) != seen.end())
        return fail(fmt::format("two fields are called {}", quoted(name)));
      seen.push_back(name);
    }
  }

  void lacks(const std::string& expected) {
    constexpr std::size_t kShown = 5;
    std::vector<std::string> found;
    for (auto at = object_ + 1; at < tape_.end(object_) && found.size() < kShown; at = tape_.end(at + 1))
      found.push_back(quoted(tape_.string(at).substr(0, 40)));
    fail(fmt::format("expected {}, found {}", expected,
                     found.empty() ? "none" : fmt::format("{}", fmt::join(found, ", "))));
  }

  template <typename T, typename... Check>
  void read_member(std::string_view name, Index at, T& value, Check... check) {
    const auto length = path_.size();
    if (length > 0) path_ += '.';
    path_ += name;
    if (!error_) read(at, value, check...);
    path_.resize(length);
  }

  void read(Index at, bool& value) {
    if (is(at, Kind::kBoolean, "true or false")) value = tape_.boolean(at);
  }

  void read(Index at, std::uint64_t& value) {
    if (is(at, Kind::kNumber, "a whole number from 0 to 2^64 - 1")) value = tape_.number(at);
  }

  void read(Index at, std::int64_t& value) {
    constexpr const char* kExpected = "a whole number from 0 to 2^63 - 1";
    if (!is(at, Kind::kNumber, kExpected)) return;
    const auto number = tape_.number(at);
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return fail(fmt::format("expected {}, found {}", kExpected, tape_.describe(at)));
    value = static_cast<std::int64_t>(number);
  }

  void read(Index at, std::string& value) { read_text(at, value, "a string"); }

  void read(Index at, NamePattern& value) {
    std::string text;
    read_text(at, text, "a pattern");
    if (!error_) value = value_of(NamePattern::parse(text));
  }

  void read(Index at, Dtype& value) {
    if (is(at, Kind::kString, "a dtype")) value = value_of(parse_dtype(tape_.string(at)));
  }

  void read(Index at, OptimizerPolicy& value) {
    if (is(at, Kind::kString, "a word")) value = value_of(parse_optimizer_policy(tape_.string(at)));
  }

  void read(Index at, FormatId& value) {
    if (is(at, Kind::kString, "a word")) value = value_of(parse_target_format(tape_.string(at)));
  }

  void read(Index at, MergeMethod& value) {
    if (is(at, Kind::kString, "a method")) value = value_of(parse_merge_method(tape_.string(at)));
  }

  void read(Index at, InitMethod& value) {
    if (is(at, Kind::kString, "a method")) value = value_of(parse_init_method(tape_.string(at)));
  }

  void read(Index at, TorchVersion& value) {
    if (is(at, Kind::kString, "a version")) value = value_of(parse_torch_version(tape_.string(at)));
  }

  template <typename T>
  void read(Index at, std::optional<T>& value) {
    if (tape_.kind(at) == Kind::kNull) {
      value.reset();
    } else {
      read(at, value.emplace());
    }
  }

  template <typename T, typename... Check>
  void read(Index at, std::vector<T>& values, Check... check) {
    if (!is(at, Kind::kArray, "an array")) return;
    const auto length = path_.size();
    for (auto item = at + 1; item < tape_.end(at) && !error_; item = tape_.end(item)) {
      path_ += fmt::format("[{}]", values.size());
      read(item, values.emplace_back());
      if constexpr (sizeof...(check) > 0) {
        if (!error_) values.back() = value_of((check(values.back()), ...));
      }
      path_.resize(length);
    }
  }

  /// A string, or {"hex": "…"} with its bytes where they are no UTF-8.
  void read_text(Index at, std::string& value, std::string_view expected) {
    if (tape_.kind(at) != Kind::kObject) {
      if (is(at, Kind::kString, expected)) value = tape_.string(at);
      return;
    }
    const bool one_string =
        tape_.end(at) == at + 3 && tape_.string(at + 1) == "hex" && tape_.kind(at + 2) == Kind::kString;
    if (!one_string || !from_hex(tape_.string(at + 2), value)) {
      fail(fmt::format(R"(expected {} or {{"hex": DIGITS}}, found {})", expected,
                       one_string ? "other characters, or half a byte" : "another object"));
    }
  }

  static bool from_hex(std::string_view digits, std::string& bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    bytes.clear();
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
      const auto high = kDigits.find(digits[i]);
      const auto low = kDigits.find(digits[i + 1]);
      if (high == kDigits.npos || low == kDigits.npos) return false;
      bytes += static_cast<char>(16 * high + low);
    }
    return digits.size() % 2 == 0;
  }

  const JsonTape& tape_;
  Index object_ = JsonTape::kRoot;  ///< whose fields are being read
  std::vector<std::string> known_;  ///< names that its reader asked for
  std::string complaint_;           ///< what it lacks as a whole
  std::string path_;
  std::optional<Error> error_;
};

}  // namespace
}  // namespace plan_text

Result<Plan> plan_from_json(std::string_view text) {
  CKPT_ASSIGN_OR_RETURN(const auto tape, JsonTape::parse(text, {.text = kLargestPlan}));
  Plan plan;
  plan_text::Reader reader(tape);
  reader.read(JsonTape::kRoot, plan);
  if (reader.error()) return *std::move(reader.error());
  return plan;
}

}  // namespace ckpt
