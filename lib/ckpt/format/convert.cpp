// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/convert.h"

#include <algorithm>

#include "ckpt/format/format.h"
#include "ckpt/format/left_behind.h"
#include "ckpt/format/safetensors.h"
#include "ckpt/format/safetensors_target.h"
#include "ckpt/format/state_dict_content.h"
#include "ckpt/format/torch_object.h"

namespace ckpt {
namespace {

/// Merging and the like have done so before they took bytes of the file.
bool are_located(const Checkpoint& checkpoint) {
  return std::all_of(checkpoint.storages.begin(), checkpoint.storages.end(), [](const Storage& storage) {
    return storage.is_added || storage.bytes == storage.extent.size;
  });
}

Result<TorchObject> object_of(const Checkpoint& checkpoint, std::uint8_t id_items,
                              std::vector<std::string>& notes) {
  if (holds_any_object(checkpoint.format)) return respell_object(checkpoint, id_items, notes);
  return make_state_dict_object(checkpoint, id_items, notes);
}

}  // namespace

FormatId output_format(const Target& target, const Checkpoint& checkpoint) {
  if (target.format) return *target.format;
  const bool is_script = holds_script(checkpoint.format);
  return is_script && checkpoint.has_new_root() ? FormatId::kTorchZip : checkpoint.format;
}

Result<Layout> lay_out_as(const Target& target, Checkpoint& checkpoint, std::vector<std::string>& notes) {
  const auto& own = format_of(checkpoint.format);
  const auto format = output_format(target, checkpoint);
  if (format == checkpoint.format) {
    return format == FormatId::kSafetensors ? lay_out_edited_safetensors(checkpoint, target.tied, notes)
                                            : own.lay_out(checkpoint);
  }
  if (!are_located(checkpoint)) CKPT_RETURN_IF_ERROR(own.locate_storages(checkpoint));
  note_left_behind(checkpoint, notes);
  if (!holds_any_object(checkpoint.format) && checkpoint.has_document())
    notes.emplace_back("only the state dict is in the output, not the code around it");
  if (format == FormatId::kSafetensors) return lay_out_safetensors(checkpoint, target.tied, notes);
  const bool is_zip = format == FormatId::kTorchZip;
  CKPT_ASSIGN_OR_RETURN(const auto object,
                        object_of(checkpoint, is_zip ? kZipIdItems : kLegacyIdItems, notes));
  return is_zip ? lay_out_torch_zip(checkpoint, object) : lay_out_torch_legacy(checkpoint, object);
}

}  // namespace ckpt
