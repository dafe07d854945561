// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/wrappers.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>

namespace ckpt {
namespace {

constexpr std::array<std::string_view, 5> kWrappers = {"module", "_orig_mod", "_fsdp_wrapped_module",
                                                       "_checkpoint_wrapped_module", "_forward_module"};

/// What stands at one position: how many keys go through each wrapper segment, and how many there are.
struct Position {
  std::map<std::string, std::uint64_t, std::less<>> through;
  std::uint64_t keys = 0;
};

/// Lets a view be looked up among strings.
struct TextHash : std::hash<std::string_view> {
  using is_transparent = void;
};

class Stripper {
 public:
  Stripper(std::vector<std::string>& keys, const std::vector<std::string>& more) : keys_(keys), more_(more) {}

  /// One pass over all positions. Did anything change?
  bool pass(std::vector<std::string>& removed) {
    find_candidates();
    if (positions_.empty()) return false;
    count_keys();
    bool changed = false;
    for (auto& key : keys_) changed = strip(key, removed) || changed;
    return changed;
  }

 private:
  bool is_wrapper(std::string_view segment) const {
    return std::find(kWrappers.begin(), kWrappers.end(), segment) != kWrappers.end() ||
           std::find(more_.begin(), more_.end(), segment) != more_.end();
  }

  static bool owned_by_wrapper(std::string_view leaf) { return leaf == "n_averaged"; }

  /// Calls f(prefix, segment) for each segment with something behind it; prefix is what stands before.
  template <typename F>
  static void for_segments(std::string_view key, F f) {
    std::size_t start = 0;
    for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.', start)) {
      f(key.substr(0, start), key.substr(start, dot - start));
      start = dot + 1;
    }
  }

  using Positions = std::unordered_map<std::string, Position, TextHash, std::equal_to<>>;

  static std::uint64_t length_bit(std::string_view prefix) {
    return std::uint64_t{1} << std::min<std::size_t>(prefix.size(), 63);
  }

  Positions::iterator find_position(std::string_view prefix) {
    return (lengths_ & length_bit(prefix)) == 0 ? positions_.end() : positions_.find(prefix);
  }

  void find_candidates() {
    positions_.clear();
    lengths_ = 0;
    for (const auto& key : keys_) {
      for_segments(key, [&](std::string_view prefix, std::string_view segment) {
        if (!is_wrapper(segment)) return;
        auto position = find_position(prefix);
        if (position == positions_.end()) {
          position = positions_.emplace(prefix, Position{}).first;
          lengths_ |= length_bit(prefix);
        }
        auto& through = position->second.through;
        const auto found = through.find(segment);
        if (found != through.end()) {
          ++found->second;
        } else {
          through.emplace(segment, 1);
        }
      });
    }
  }

  void count_keys() {
    for (const auto& key : keys_) {
      const std::string_view view = key;
      std::size_t start = 0;
      while (true) {
        const auto position = find_position(view.substr(0, start));
        const auto dot = view.find('.', start);
        const bool leaf = dot == view.npos;
        if (position != positions_.end() && !(leaf && owned_by_wrapper(view.substr(start))))
          ++position->second.keys;
        if (leaf) break;
        start = dot + 1;
      }
    }
  }

  bool strip(std::string& key, std::vector<std::string>& removed) {
    std::string out;
    std::size_t kept_from = 0;
    for_segments(key, [&](std::string_view prefix, std::string_view segment) {
      const auto position = find_position(prefix);
      if (position == positions_.end()) return;
      const auto through = position->second.through.find(segment);
      if (through == position->second.through.end() || through->second != position->second.keys) return;
      out += std::string_view(key).substr(kept_from, prefix.size() - kept_from);
      kept_from = prefix.size() + segment.size() + 1;
      const auto name = std::string_view(key).substr(0, kept_from);
      if (std::find(removed.begin(), removed.end(), name) == removed.end()) removed.emplace_back(name);
    });
    if (kept_from == 0) return false;
    key.replace(0, kept_from, out);
    return true;
  }

  std::vector<std::string>& keys_;
  const std::vector<std::string>& more_;
  Positions positions_;
  std::uint64_t lengths_ = 0;  ///< of the positions, a bit each: nearly every prefix is told by its length
};

}  // namespace

std::span<const std::string_view> known_wrappers() {
  return kWrappers;
}

std::vector<std::string> strip_wrappers(std::vector<std::string>& keys,
                                        const std::vector<std::string>& more_wrappers) {
  std::vector<std::string> removed;
  Stripper stripper(keys, more_wrappers);
  while (stripper.pass(removed)) {  // every pass shortens a key
  }
  return removed;
}

}  // namespace ckpt
