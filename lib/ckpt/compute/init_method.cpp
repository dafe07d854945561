// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/compute/init_method.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {
namespace {

using Kind = InitMethod::Kind;
using Fan = InitMethod::Fan;

struct Method {
  std::string_view name;
  Kind kind;
  std::string_view argument;  ///< what may follow a colon, as messages write it; empty if nothing may
};

constexpr std::string_view kFans = "fan-in|fan-out";

constexpr std::array<Method, 8> kMethods = {{
    {"default", Kind::kDefault, ""},
    {"zeros", Kind::kZeros, ""},
    {"normal", Kind::kNormal, "STD"},
    {"trunc-normal", Kind::kTruncNormal, "STD"},
    {"xavier-uniform", Kind::kXavierUniform, "GAIN"},
    {"xavier-normal", Kind::kXavierNormal, "GAIN"},
    {"kaiming-uniform", Kind::kKaimingUniform, kFans},
    {"kaiming-normal", Kind::kKaimingNormal, kFans},
}};

Error unknown_method(std::string_view name) {
  std::vector<std::string> names;
  std::vector<std::string> forms;
  for (const auto& method : kMethods) {
    names.emplace_back(method.name);
    forms.push_back(method.argument.empty() ? names.back()
                                            : fmt::format("{}[:{}]", method.name, method.argument));
  }
  Error error(ErrorCode::kUsage, fmt::format("unknown initialisation {}: expected one of {}", quoted(name),
                                             fmt::join(forms, ", ")));
  const auto meant = nearest(name, names);
  return meant.empty() ? error : std::move(error).with_hint(fmt::format("did you mean '{}'?", meant));
}

Error bad_argument(const Method& method, std::string_view argument) {
  const auto expected = method.argument.empty()    ? std::string("none")
                        : method.argument == kFans ? std::string("fan-in or fan-out")
                        : method.kind == Kind::kTruncNormal
                            ? std::string("STD, a positive number")
                            : fmt::format("{}, a number that is not negative", method.argument);
  return {ErrorCode::kUsage, fmt::format("initialisation '{}' can't take the argument {}: expected {}",
                                         method.name, quoted(argument), expected)};
}

std::optional<Fan> parse_fan(std::string_view text) {
  if (text == "fan-in") return Fan::kIn;
  if (text == "fan-out") return Fan::kOut;
  return std::nullopt;
}

std::optional<double> parse_size(std::string_view text) {
  double number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || end != text.data() + text.size() || !std::isfinite(number) || std::signbit(number))
    return std::nullopt;
  return number;
}

}  // namespace

Result<InitMethod> parse_init_method(std::string_view text) {
  const auto colon = text.find(':');
  const auto name = text.substr(0, colon);
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [&](const Method& method) { return method.name == name; });
  if (found == kMethods.end()) return unknown_method(name);
  InitMethod init{found->kind, std::nullopt, Fan::kIn};
  if (colon == std::string_view::npos) return init;
  const auto argument = text.substr(colon + 1);
  if (found->argument.empty()) return bad_argument(*found, argument);
  if (found->argument == kFans) {
    const auto fan = parse_fan(argument);
    if (!fan) return bad_argument(*found, argument);
    init.fan = *fan;
    return init;
  }
  init.parameter = parse_size(argument);
  if (!init.parameter || (init.kind == Kind::kTruncNormal && *init.parameter == 0))
    return bad_argument(*found, argument);
  return init;
}

std::string init_method_text(const InitMethod& method) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [&](const Method& known) { return known.kind == method.kind; });
  if (method.parameter) return fmt::format("{}:{}", found->name, *method.parameter);
  if (method.fan == Fan::kOut) return fmt::format("{}:fan-out", found->name);
  return std::string(found->name);
}

}  // namespace ckpt
