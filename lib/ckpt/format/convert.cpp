// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/convert.h"

#include "ckpt/format/format.h"

namespace ckpt {

Result<Layout> lay_out_as(const Target& target, Checkpoint& checkpoint, std::vector<std::string>& notes) {
  (void)notes;
  const auto& own = format_of(checkpoint.format);
  if (!target.format || *target.format == checkpoint.format) return own.lay_out(checkpoint);
  return Error(ErrorCode::kUnsupported, "not built yet");
}

}  // namespace ckpt
