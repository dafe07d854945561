// SPDX-License-Identifier: BSD-3-Clause
// Where an output path leads, decided without creating anything.
#pragma once

#include <cstdint>
#include <string>

#include "ckpt/base/result.h"
#include "ckpt/io/output_set.h"

namespace ckpt {

enum class TargetKind : std::uint8_t {
  kFile,            ///< a regular file, existing or not: written beside it, then renamed
  kDevice,          ///< a FIFO or device: opened and written as it is
  kStandardOutput,  ///< the descriptor we were given
};

struct OutputTarget {
  TargetKind kind = TargetKind::kFile;
  std::string name;  ///< what the user wrote, or "standard output"
  std::string path;  ///< what it leads to: not a symbolic link any more

  /// The directory that holds `path`.
  std::string directory() const;
};

/// Follows `path` and asks whether an output may go there.
/// Errors: kExists for a file without Overwrite::kYes, kUsage for a directory, kRefused for a terminal,
/// kNotFound, kIo.
Result<OutputTarget> resolve_output(const std::string& path, Overwrite overwrite);

/// May we create a file beside the target, and its directory where that may be made, or open the device?
/// Errors: as creating it would give.
Status check_access(const OutputTarget& target, MissingDirectory missing_directory);

}  // namespace ckpt
