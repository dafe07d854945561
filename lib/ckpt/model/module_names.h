// SPDX-License-Identifier: BSD-3-Clause
// What renaming and dropping keys means for the modules they belong to, for `_metadata`: its keys are
// module paths ("layer1.0", "" for the root).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ckpt {

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
