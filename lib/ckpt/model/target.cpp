// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/target.h"

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

std::string_view target_format_name(FormatId format) {
  switch (format) {
    case FormatId::kTorchZip: return "torch";
    case FormatId::kTorchLegacy: return "torch-legacy";
    case FormatId::kSafetensors: return "safetensors";
    case FormatId::kTorchScript:
    case FormatId::kOldTorchScript: return "";  // made by PyTorch alone
  }
  return "";
}

Result<FormatId> parse_target_format(std::string_view name) {
  for (const auto format : {FormatId::kTorchZip, FormatId::kTorchLegacy, FormatId::kSafetensors}) {
    if (name == target_format_name(format)) return format;
  }
  return Error(ErrorCode::kUsage,
               fmt::format("expected torch, torch-legacy or safetensors, found {}", quoted(name)));
}

}  // namespace ckpt
