// SPDX-License-Identifier: BSD-3-Clause
// Naming what is no checkpoint of a known kind: Git LFS pointers, web pages, other containers.
#pragma once

#include <cstddef>
#include <string>

#include "ckpt/format/format.h"

namespace ckpt {

inline constexpr std::size_t kProbeSize = 512;  ///< bytes of a file that probes see

/// "a Git LFS pointer to 1.2 GB; run git lfs pull", "an HTML page", "gzip data", "an empty file", … for a
/// message "this is …"; "no known kind of checkpoint" where nothing matches.
std::string describe_foreign(const Probe& probe);

}  // namespace ckpt
