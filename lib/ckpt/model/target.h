// SPDX-License-Identifier: BSD-3-Clause
// Which container an output is, and what is decided for those that can't say all that others can.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/checkpoint.h"

namespace ckpt {

/// Tensors on one storage, for a container in which each has bytes of its own.
enum class TiedTensors : std::uint8_t {
  kAlias,  ///< one is written, the names of the others lead to it
  kCopy,   ///< each is written
  kError,
};

struct Target {
  std::optional<FormatId> format;  ///< none: the container of the input
  TiedTensors tied = TiedTensors::kAlias;

  friend bool operator==(const Target&, const Target&) = default;
};

/// "torch", "torch-legacy", "safetensors": containers that any file can be converted to, as plan files and
/// the command line spell them. Empty for another one.
CKPT_EXPORT std::string_view target_format_name(FormatId format);
/// Errors: kUsage with the words that there are.
CKPT_EXPORT Result<FormatId> parse_target_format(std::string_view name);

}  // namespace ckpt
