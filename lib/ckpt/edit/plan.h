// SPDX-License-Identifier: BSD-3-Clause
// What a command wants done to a checkpoint, as data: an ordered list of edits. Flags build a Plan; `apply`
// carries it out on the model; nothing here knows a container or an offset.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/model/dtype.h"
#include "ckpt/model/name_pattern.h"

namespace ckpt {

/// Removes the names of wrappers from keys. Stable name: "strip-dataparallel".
struct StripWrappers {
  std::vector<std::string> wrappers;  ///< segments beside the known ones
};

/// One --keep or --drop.
struct KeyRule {
  bool keep = true;
  NamePattern pattern;
};

/// A key of the reference of `--like`, with what is compared.
struct ReferenceKey {
  std::string name;
  std::vector<std::int64_t> shape;
  bool is_tensor = true;
};

/// Keeps or drops keys. Rules act in order and the last that matches decides; where none does, a key stays
/// if the first rule is a drop. Stable name: "filter-keys".
struct FilterKeys {
  std::vector<KeyRule> rules;
  std::vector<Dtype> only_dtypes;          ///< empty: all
  std::optional<std::uint64_t> min_bytes;  ///< numel × item size
  std::optional<std::uint64_t> max_bytes;
  std::optional<std::vector<ReferenceKey>> like;
  bool ignore_shape = false;
  bool strict = false;  ///< missing or mismatched keys mean: write nothing
};

/// One step of renaming. Stable name of the edit: "rename-keys".
struct RenameRule {
  enum class Kind : std::uint8_t { kMap, kAddPrefix, kStripPrefix } kind = Kind::kMap;
  std::optional<NamePattern> pattern;  ///< kMap
  std::string text;                    ///< replacement, or the prefix
};

struct RenameKeys {
  std::vector<RenameRule> rules;  ///< in order, each on the result of the one before
};

/// Takes entries away that are no tensors of a state dict: an optimizer, an epoch. Stable name: "drop-entry".
struct DropEntries {
  std::vector<std::string> paths;
};

using Edit = std::variant<StripWrappers, FilterKeys, RenameKeys, DropEntries>;

/// The edit's stable name, as plan files and reports spell it.
CKPT_EXPORT std::string_view edit_name(const Edit& edit);

/// What to do with optimizer state. It counts parameters by position, and may remember their names.
enum class OptimizerPolicy : std::uint8_t {
  kRemap,            ///< it follows the edits of keys, where it is proven which parameter is which
  kRemapModelOrder,  ///< and where nothing speaks against the order of the keys
  kKeep,             ///< it stays as it is
  kDrop,
};

struct Plan {
  std::vector<Edit> edits;
  std::vector<std::string> roots;  ///< paths of the state dicts to edit; empty: all
  OptimizerPolicy optimizer = OptimizerPolicy::kRemap;
  bool allow_unmatched = false;  ///< patterns may match nothing
};

/// "OLD=NEW", split at the last '='. Errors: kUsage.
CKPT_EXPORT Result<RenameRule> parse_rename_rule(std::string_view text);

}  // namespace ckpt
