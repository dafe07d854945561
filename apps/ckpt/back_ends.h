// SPDX-License-Identifier: BSD-3-Clause
// What can compute on this machine.
#pragma once

#include "console.h"

namespace ckpt::cli {

/// A line for each back end: what it is, or why it is not to be had. Opens them all to find out.
void print_back_ends(Stream& out);

}  // namespace ckpt::cli
