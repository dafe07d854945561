// SPDX-License-Identifier: BSD-3-Clause
// Lists of names in text reports: the first few, and how many there are besides.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ckpt::cli {

inline constexpr std::size_t kShownNames = 5;  ///< JSON has all

/// "'a', 'b', 'c' and 12 more".
std::string listed(const std::vector<std::string>& names);

}  // namespace ckpt::cli
