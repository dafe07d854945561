// SPDX-License-Identifier: BSD-3-Clause
// The name segments that wrapping a model leaves in its keys: DataParallel's and DDP's `module.`,
// torch.compile's `_orig_mod.` and the like. A segment is a wrapper's only where it wraps everything at that
// position; keys that the wrapper itself owns (`n_averaged` of AveragedModel) do not count and stay.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ckpt/base/export.h"

namespace ckpt {

/// Segments known to be wrappers': module, _orig_mod, _fsdp_wrapped_module, _checkpoint_wrapped_module,
/// _forward_module.
CKPT_EXPORT std::span<const std::string_view> known_wrappers();

/// `keys` without wrapper segments, in place and to a fixed point. Returns what was removed, each once, as it
/// would be read: "module.", "features.module.".
CKPT_EXPORT std::vector<std::string> strip_wrappers(std::vector<std::string>& keys,
                                                    const std::vector<std::string>& more_wrappers);

}  // namespace ckpt
