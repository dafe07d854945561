// SPDX-License-Identifier: BSD-3-Clause
#include <string_view>

#include "check_format.h"
#include "ckpt/format/torchscript_code.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ckpt::fuzz::check_format(ckpt::FormatId::kTorchScript, {data, size});
  const auto text = std::as_bytes(std::span(data, size));
  const auto classes = ckpt::parse_script_classes(ckpt::as_text(text));
  if (!classes) return 0;
  for (const auto& script_class : *classes)
    ckpt::fuzz::require(script_class.positions.size() <= script_class.attributes.size());
  return 0;
}
