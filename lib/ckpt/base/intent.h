// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

namespace ckpt {

/// What a file is read for.
enum class Intent : std::uint8_t {
  kLook,
  kRewrite,  ///< what only a writer has to know is found out, too, while the rest is read
};

}  // namespace ckpt
