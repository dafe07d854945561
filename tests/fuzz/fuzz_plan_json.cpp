// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a plan: the reader says what is wrong, or gives a plan whose text is read as the same plan.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ckpt/edit/plan_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto plan = ckpt::plan_from_json({reinterpret_cast<const char*>(data), size});
  if (!plan.ok()) {
    if (plan.error().message().empty() || plan.error().code() == ckpt::ErrorCode::kInternal) std::abort();
    return 0;
  }
  const auto text = ckpt::plan_to_json(*plan);
  const auto again = ckpt::plan_from_json(text);
  if (!again.ok() || ckpt::plan_to_json(*again) != text) std::abort();
  return 0;
}
