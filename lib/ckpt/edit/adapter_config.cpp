// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/adapter_config.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/json_tape.h"

namespace ckpt {
namespace {

using Kind = JsonTape::Kind;
using Index = JsonTape::Index;

bool is_number(const JsonTape& tape, Index at) {
  return tape.kind(at) == Kind::kNumber || tape.kind(at) == Kind::kOtherNumber;
}

bool is_true(const JsonTape& tape, Index at) {
  return tape.kind(at) == Kind::kBoolean && tape.boolean(at);
}

/// As PEFT matches the keys of `alpha_pattern`: a regular expression for the end of a module's name.
Status read_alphas(const JsonTape& tape, Index object, AdapterConfig& config) {
  if (tape.kind(object) != Kind::kObject) return {};
  for (auto at = object + 1; at < tape.end(object); at = tape.end(at + 1)) {
    if (!is_number(tape, at + 1)) continue;
    CKPT_ASSIGN_OR_RETURN(auto pattern,
                          NamePattern::parse(fmt::format("re:^(.*\\.)?({})$", tape.string(at))));
    config.alphas.emplace_back(std::move(pattern), tape.real(at + 1));
  }
  return {};
}

Status read_field(const JsonTape& tape, std::string_view name, Index at, AdapterConfig& config) {
  if (name == "peft_type" && tape.kind(at) == Kind::kString && tape.string(at) != "LORA") {
    return Error(ErrorCode::kUnsupported,
                 fmt::format("its adapter is of kind {}: only LORA is known", quoted(tape.string(at))));
  }
  if (name == "use_dora" && is_true(tape, at))
    return Error(ErrorCode::kUnsupported, "its adapter is a DoRA, which is more than a product of matrices");
  if (name == "lora_alpha" && tape.kind(at) != Kind::kNull) {
    if (!is_number(tape, at)) return Error(ErrorCode::kUnsupported, "lora_alpha is no number");
    config.alpha = tape.real(at);
  }
  if (name == "use_rslora") config.rank_stabilized = is_true(tape, at);
  if (name == "fan_in_fan_out") config.fan_in_fan_out = is_true(tape, at);
  if (name == "alpha_pattern") return read_alphas(tape, at, config);
  return {};
}

}  // namespace

std::optional<double> AdapterConfig::alpha_of(std::string_view module) const {
  for (const auto& [pattern, value] : alphas) {
    if (pattern.matches(module)) return value;
  }
  return alpha;
}

Result<AdapterConfig> parse_adapter_config(std::string_view text) {
  CKPT_ASSIGN_OR_RETURN(const auto tape, JsonTape::parse(text));
  AdapterConfig config;
  if (tape.kind(JsonTape::kRoot) != Kind::kObject) return config;
  for (auto at = JsonTape::kRoot + 1; at < tape.end(JsonTape::kRoot); at = tape.end(at + 1))
    CKPT_RETURN_IF_ERROR(read_field(tape, tape.string(at), at + 1, config));
  return config;
}

}  // namespace ckpt
