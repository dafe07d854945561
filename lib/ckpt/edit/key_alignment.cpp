// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/key_alignment.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace ckpt {
namespace {

/// `a` and `b` without the whole segments that they end in alike: ("module.fc.weight", "fc.weight") gives
/// ("module.", "").
std::pair<std::string_view, std::string_view> differing_prefixes(std::string_view a, std::string_view b) {
  std::size_t same = 0;
  while (same < a.size() && same < b.size() && a[a.size() - 1 - same] == b[b.size() - 1 - same]) ++same;
  const auto starts_segment = [](std::string_view key, std::size_t at) {
    return at == 0 || key[at - 1] == '.';
  };
  while (same > 0 && !(starts_segment(a, a.size() - same) && starts_segment(b, b.size() - same))) --same;
  return {a.substr(0, a.size() - same), b.substr(0, b.size() - same)};
}

std::string_view last_segment(std::string_view key) {
  return key.substr(key.rfind('.') + 1);
}

}  // namespace

KeyAlignment align_keys(std::span<const std::string> theirs, std::span<const std::string> ours) {
  // A prefix that fits all fits the first few.
  constexpr std::size_t kTried = 8;
  std::map<std::pair<std::string_view, std::string_view>, std::uint64_t> candidates;
  for (const auto& their : theirs.first(std::min(kTried, theirs.size()))) {
    for (const auto& our : ours) {
      if (last_segment(their) == last_segment(our)) ++candidates[differing_prefixes(their, our)];
    }
  }
  const std::unordered_set<std::string_view> known(ours.begin(), ours.end());
  std::vector<std::pair<std::uint64_t, std::pair<std::string_view, std::string_view>>> by_votes;
  for (const auto& [prefixes, votes] : candidates) by_votes.emplace_back(votes, prefixes);
  std::sort(by_votes.begin(), by_votes.end(), std::greater<>());
  if (by_votes.size() > kTried) by_votes.resize(kTried);
  KeyAlignment best;
  for (const auto& [votes, prefixes] : by_votes) {
    const auto& [strip, add] = prefixes;
    std::uint64_t matches = 0;
    std::string name;
    for (const auto& their : theirs) {
      if (!their.starts_with(strip)) continue;
      name.assign(add).append(their, strip.size());
      if (known.contains(name)) ++matches;
    }
    const auto length = strip.size() + add.size();
    if (matches > best.matches ||
        (matches == best.matches && matches > 0 && length < best.strip.size() + best.add.size())) {
      best = {std::string(strip), std::string(add), matches};
    }
  }
  return best;
}

}  // namespace ckpt
