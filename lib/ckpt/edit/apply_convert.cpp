// SPDX-License-Identifier: BSD-3-Clause
// What of a file stays, and how its tensors lie in it. Which container the output is, is none of an edit's
// business: see format/convert.h.
#include "ckpt/edit/conversions.h"

namespace ckpt {

Status apply_convert(const Convert& edit, EditContext& context) {
  if (edit.state_dict || edit.tensors_only) CKPT_RETURN_IF_ERROR(make_root(context));
  if (edit.tensors_only) CKPT_RETURN_IF_ERROR(keep_tensors_only(context));
  if (!context.report.conversion) context.report.conversion.emplace();
  if (edit.weights_only) CKPT_RETURN_IF_ERROR(make_weights_only(context));
  if (edit.device_tag_cpu) CKPT_RETURN_IF_ERROR(tag_devices_cpu(context));
  if (edit.compact) context.report.conversion->compacted = find_views(context);  // a cast separates them, too
  if (!edit.dtypes.empty()) CKPT_RETURN_IF_ERROR(cast_tensors(edit, context));
  if (edit.compact) CKPT_RETURN_IF_ERROR(compact_tensors(context));
  if (edit.dedupe) CKPT_RETURN_IF_ERROR(dedupe_storages(context));
  return {};
}

}  // namespace ckpt
