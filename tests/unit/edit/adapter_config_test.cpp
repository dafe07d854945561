// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/adapter_config.h"

#include "support/catch.h"

using namespace ckpt;

TEST_CASE("the scale of an adapter is read as PEFT writes it", "[edit]") {
  const auto config = parse_adapter_config(
      R"({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_rslora": true, "fan_in_fan_out": true,
          "alpha_pattern": {"q_proj": 4.5, "layers\\.1\\..*": 2}, "target_modules": ["q_proj"], "bias": "none"})");
  REQUIRE(config.ok());
  CHECK(config->rank_stabilized);
  CHECK(config->fan_in_fan_out);
  CHECK(config->alpha_of("layers.0.q_proj") == 4.5);
  CHECK(config->alpha_of("layers.1.v_proj") == 2);
  CHECK(config->alpha_of("layers.0.v_proj") == 16);
  CHECK_FALSE(parse_adapter_config("{}")->alpha_of("a"));
}

TEST_CASE("adapters of other kinds are refused by name", "[edit]") {
  const auto problem = [](const char* text) { return parse_adapter_config(text).error(); };
  CHECK(problem(R"({"peft_type": "IA3"})").message() == "its adapter is of kind 'IA3': only LORA is known");
  CHECK(problem(R"({"use_dora": true})").code() == ErrorCode::kUnsupported);
  CHECK(problem("{").code() == ErrorCode::kCorrupt);
  CHECK(parse_adapter_config("[]").ok());
}
