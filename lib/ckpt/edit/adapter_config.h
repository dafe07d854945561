// SPDX-License-Identifier: BSD-3-Clause
// What adapter_config.json, which PEFT writes beside the weights of an adapter, says about their scale.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ckpt/base/result.h"
#include "ckpt/model/name_pattern.h"

namespace ckpt {

struct AdapterConfig {
  std::optional<double> alpha;
  std::vector<std::pair<NamePattern, double>> alphas;  ///< of some modules; the first that matches counts
  bool rank_stabilized = false;                        ///< scaled by alpha/√r instead of alpha/r
  bool fan_in_fan_out = false;                         ///< the weights are transposed

  std::optional<double> alpha_of(std::string_view module) const;
};

/// Errors: kCorrupt for what is no JSON; kUnsupported for adapters that are no LoRA, or a kind of it that is
/// more than a product of two matrices.
Result<AdapterConfig> parse_adapter_config(std::string_view text);

}  // namespace ckpt
