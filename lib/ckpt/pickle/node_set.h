// SPDX-License-Identifier: BSD-3-Clause
// A set of nodes of one graph, one bit each.
#pragma once

#include <cstdint>
#include <vector>

#include "ckpt/pickle/value_graph.h"

namespace ckpt {

class NodeSet {
 public:
  explicit NodeSet(Use size) : words_(size / 64 + 1) {}

  bool contains(Use node) const { return ((words_[node / 64] >> (node % 64)) & 1U) != 0; }

  /// Was it missing?
  bool insert(Use node) {
    auto& word = words_[node / 64];
    const auto bit = std::uint64_t{1} << (node % 64);
    const bool missing = (word & bit) == 0;
    word |= bit;
    return missing;
  }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace ckpt
