// SPDX-License-Identifier: BSD-3-Clause
// The modules that keys belong to, and what renaming and dropping keys means for them, for `_metadata`: its
// keys are module paths ("layer1.0", "" for the root).
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ckpt {

/// "layer1.bn" of "layer1.bn.weight"; "", the root, where there is no dot.
inline std::string_view module_of(std::string_view key) {
  const auto dot = key.rfind('.');
  return dot == key.npos ? std::string_view() : key.substr(0, dot);
}

/// "weight" of "layer1.bn.weight".
inline std::string_view leaf_of(std::string_view key) {
  const auto dot = key.rfind('.');
  return dot == key.npos ? key : key.substr(dot + 1);
}

/// A key before and after an edit; `after` is empty with `dropped`.
struct KeyMove {
  std::string before;
  std::string after;
  bool dropped = false;
};

/// What becomes of what is known about one module path.
struct ModuleMove {
  enum class Kind { kStays, kMoves, kGoes } kind = Kind::kStays;
  std::string name;  ///< with kMoves
  std::size_t value =
      0;  ///< index of the module whose value stands here now: its own, or of one that came here
};

/// Derives the moves of `modules` from those of the keys. A module goes where its own keys go, those with
/// nothing but a name behind its path, if they keep it and agree. Else it moves when keys below it keep what
/// follows its path and agree on what stands before, and all others below it, of which something behind its
/// path changed too, can stand below the new path: their segments that stay do so on the same side of it.
/// Without such keys there has to be one path below which all can stand. A module goes when its keys moved
/// elsewhere in different ways. One of which no key remains, or that had none, follows the nearest module
/// around it that moves, and stays if there is none: nobody asked to forget what is known about it.
///
/// Of several that come to one name the deepest is the wrapped one, and gives its value to the entry that
/// stood there, or else to the first that came; the others go, as in PyTorch's own helper since 2.3
/// (torch.nn.modules.utils.consume_prefix_in_state_dict_if_present).
std::vector<ModuleMove> move_modules(const std::vector<std::string>& modules,
                                     const std::vector<KeyMove>& keys);

}  // namespace ckpt
