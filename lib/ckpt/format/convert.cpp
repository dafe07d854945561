// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/convert.h"

#include <algorithm>

#include "ckpt/format/format.h"
#include "ckpt/format/safetensors_target.h"

namespace ckpt {
namespace {

/// Merging and the like have done so before they took bytes of the file.
bool are_located(const Checkpoint& checkpoint) {
  return std::all_of(checkpoint.storages.begin(), checkpoint.storages.end(), [](const Storage& storage) {
    return storage.is_added || storage.bytes == storage.extent.size;
  });
}

}  // namespace

Result<Layout> lay_out_as(const Target& target, Checkpoint& checkpoint, std::vector<std::string>& notes) {
  const auto& own = format_of(checkpoint.format);
  if (!target.format || *target.format == checkpoint.format) return own.lay_out(checkpoint);
  if (!are_located(checkpoint)) CKPT_RETURN_IF_ERROR(own.locate_storages(checkpoint));
  if (*target.format == FormatId::kSafetensors)
    return lay_out_safetensors(checkpoint, target.tied, notes);
  return Error(ErrorCode::kUnsupported, "files can't be converted to this container");
}

}  // namespace ckpt
