// SPDX-License-Identifier: BSD-3-Clause
// The mark of what the shared library shows to programs; everything else stays hidden.
#pragma once

#define CKPT_EXPORT [[gnu::visibility("default")]]
