// SPDX-License-Identifier: BSD-3-Clause
// What of a file stays, and how its tensors lie in it. Which container the output is, is none of an edit's
// business: see format/convert.h.
#include "ckpt/edit/edits.h"

namespace ckpt {

Status apply_convert(const Convert& edit, EditContext& context) {
  if (edit.state_dict || edit.tensors_only) CKPT_RETURN_IF_ERROR(make_root(context));
  if (edit.tensors_only || edit.weights_only || edit.compact || edit.dedupe || edit.device_tag_cpu)
    return Error(ErrorCode::kUnsupported, "not built yet");
  return {};
}

}  // namespace ckpt
