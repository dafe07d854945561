// SPDX-License-Identifier: BSD-3-Clause
// Releases of PyTorch as far as they compute differently: which ones are known, and how one is named.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"

namespace ckpt {

/// A release without its patch level.
struct TorchVersion {
  int major = 0;
  int minor = 0;

  friend auto operator<=>(const TorchVersion&, const TorchVersion&) = default;
};

/// How random values come about between these two was compared with 1.13, 2.0, 2.1, 2.6 and 2.11 to 2.15.
inline constexpr TorchVersion kOldestComputedTorch = {1, 13};
inline constexpr TorchVersion kNewestComputedTorch = {2, 15};

/// "2.11", also with a patch level and a local part as in torch.__version__ ("2.11.0+cu128").
///
/// kUsage: not a version, or not one between the oldest and the newest known.
CKPT_EXPORT Result<TorchVersion> parse_torch_version(std::string_view text);

/// "2.11".
CKPT_EXPORT std::string torch_version_text(TorchVersion version);

}  // namespace ckpt
