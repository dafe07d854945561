// SPDX-License-Identifier: BSD-3-Clause
// The modules that keys belong to, and what renaming and dropping keys means for them, for `_metadata`: its
// keys are module paths ("layer1.0", "" for the root).
#pragma once

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

/// What becomes of one module path.
struct ModuleMove {
  enum class Kind { kStays, kMoves, kGoes } kind = Kind::kStays;
  std::string name;  ///< with kMoves
};

/// Derives the moves of `modules` from those of the keys. A module moves when all remaining keys below it
/// keep what follows its path and agree on what stands before; it goes when its keys moved elsewhere in
/// different ways. A module of which no key remains, or that had none, follows the nearest module around it
/// that moves, and stays if there is none: nobody asked to forget what is known about it.
std::vector<ModuleMove> move_modules(const std::vector<std::string>& modules,
                                     const std::vector<KeyMove>& keys);

}  // namespace ckpt
