// SPDX-License-Identifier: BSD-3-Clause
// -v: what the program does, on standard error.
#pragma once

#include <string_view>

namespace ckpt::cli {

/// Until this is called, `log_step` costs nothing and prints nothing.
void start_logging();
void log_step(std::string_view message);

}  // namespace ckpt::cli
