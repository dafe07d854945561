// SPDX-License-Identifier: BSD-3-Clause
// Plans as text: what --print-plan prints and `apply` reads. The format is described in
// docs/reference/plan.md, for other programs in docs/reference/schema/plan.schema.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/edit/plan.h"

namespace ckpt {

inline constexpr std::uint64_t kLargestPlan = 1ULL << 28U;  ///< bytes that are read

/// JSON that ends in a newline, the same for the same plan. What a plan does not say is not spelled.
CKPT_EXPORT std::string plan_to_json(const Plan& plan);

/// The plan that the text says, and nothing else: unknown fields are mistakes. `text` may be hostile.
/// Errors: kCorrupt for what is no JSON, with the byte; kUnsupported for a text that is too large or too
/// deep, and for a later version of the format; kUsage for all else, with the place in the plan, what is
/// expected there and what was found: "edits[6].rules[0].keep: expected a pattern, found the number 3".
CKPT_EXPORT Result<Plan> plan_from_json(std::string_view text);

}  // namespace ckpt
