// SPDX-License-Identifier: BSD-3-Clause
// Finding a value by its path.
#pragma once

#include <string>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// A value and the item it is: what a drop of the path takes away.
struct FoundValue {
  Use value = kNoUse;
  Use key = kNoUse;   ///< node of its key, in a mapping
  Use pair = kNoUse;  ///< the [key, value] list around both, in mappings made of pairs
  bool in_list = false;
};

/// Errors: kUsage for a text that is no path, kNotFound naming the step that leads nowhere and the nearest
/// key there, kUnsupported in containers without a document.
CKPT_EXPORT Result<FoundValue> find_value(const Checkpoint& checkpoint, std::string_view path);

}  // namespace ckpt
