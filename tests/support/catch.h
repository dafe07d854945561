// SPDX-License-Identifier: BSD-3-Clause
// Catch2 2 (Debian 12) or 3 (Debian 13), whichever is installed.
#pragma once

#if CKPT_CATCH2_MAJOR >= 3
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
