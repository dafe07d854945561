// SPDX-License-Identifier: BSD-3-Clause
// What prefix, taken away or put in front, would make the keys of one file those of another.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace ckpt {

struct KeyAlignment {
  std::string strip;          ///< "module." in front of the one's keys; may be empty
  std::string add;            ///< to be put there instead; may be empty
  std::uint64_t matches = 0;  ///< keys that would then be equal; 0: no prefix helps
};

/// Prefixes end at a dot. Of several that help the one with the most matches, then the shortest.
KeyAlignment align_keys(std::span<const std::string> theirs, std::span<const std::string> ours);

}  // namespace ckpt
