// SPDX-License-Identifier: BSD-3-Clause
#include "render/lists.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt::cli {

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < std::min(kShownNames, names.size()); ++i)
    out += (i > 0 ? ", " : "") + quoted(names[i]);
  if (names.size() > kShownNames)
    out += fmt::format(" and {} more", with_separators(names.size() - kShownNames));
  return out;
}

}  // namespace ckpt::cli
