// SPDX-License-Identifier: BSD-3-Clause
// What a command wants done to a checkpoint, as data: an ordered list of edits. Flags build a Plan; `apply`
// carries it out on the model; nothing here knows a container or an offset.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ckpt/base/export.h"
#include "ckpt/base/result.h"
#include "ckpt/compute/cast_watch.h"
#include "ckpt/compute/init_method.h"
#include "ckpt/compute/torch_version.h"
#include "ckpt/edit/merge_recipe.h"
#include "ckpt/model/checkpoint.h"
#include "ckpt/model/dtype.h"
#include "ckpt/model/name_pattern.h"
#include "ckpt/model/target.h"

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

/// One file that gives tensors to the base.
struct MergeSource {
  std::string file;                 ///< as the user calls it
  std::optional<std::string> root;  ///< path of its state dict; none: the one that pairs with the base's
  /// Read, with its storages located, before the plan is applied. No part of the plan's text.
  std::shared_ptr<Checkpoint> checkpoint = nullptr;
  /// The text of adapter_config.json beside it, read likewise where the method is lora and there is one.
  std::optional<std::string> adapter_config = std::nullopt;
};

/// Tensors of other files take the place of the base's, or are merged with them by a method. Stable name:
/// "merge".
struct MergeTensors {
  enum class Keys : std::uint8_t {
    kBase,          ///< those of the base
    kUnion,         ///< and those that only others have, behind them
    kIntersection,  ///< those that all files have
    kEqual,         ///< all files must have the same
  };
  enum class OnShapeMismatch : std::uint8_t { kError, kKeepBase, kTakeOther };
  enum class OnDtypeMismatch : std::uint8_t { kError, kToBase, kTakeOther };

  std::vector<MergeSource> sources;  ///< without a method the last one that has a key counts
  Keys keys = Keys::kBase;
  OnShapeMismatch on_shape_mismatch = OnShapeMismatch::kError;
  OnDtypeMismatch on_dtype_mismatch = OnDtypeMismatch::kError;
  std::optional<MergeRecipe> method;
  std::optional<Dtype> dtype;  ///< beside a method, of the floating-point tensors; none: the base's
};

/// Last layers get another number of rows. Stable name: "replace-head".
struct ReplaceHead {
  /// A row of the new head that is one of the old head's.
  struct KeptRow {
    std::int64_t to = 0;
    std::int64_t from = 0;
  };

  enum class Background : std::uint8_t { kNone, kFirst, kLast };

  std::vector<std::string> heads;           ///< names of layers, "fc"; empty: the one that looks like it
  std::optional<std::int64_t> num_classes;  ///< none: as many as `rows` need, or the old head has
  InitMethod init;
  std::uint64_t seed = 0;  ///< of the random values; each state dict begins with it anew
  TorchVersion torch = kNewestComputedTorch;
  bool keep_rows = false;  ///< each row that both have
  std::vector<KeptRow> rows;
  std::int64_t label_offset = 0;              ///< new row i is old row i + this
  Background background = Background::kNone;  ///< which row is no class and stays the one it is
  std::optional<std::string> rename;
  bool no_bias = false;
  std::optional<std::int64_t> in_features;
};

/// One --dtype: what becomes of the keys that it means.
struct DtypeRule {
  std::optional<NamePattern> pattern;  ///< none: all keys
  Dtype dtype = Dtype::kFloat32;
};

/// What of a file stays, and how its tensors lie in it. All that is asked for happens, in the order of the
/// fields. Stable name: "convert".
struct Convert {
  bool state_dict = false;      ///< the one chosen state dict becomes the root; all around it goes
  bool tensors_only = false;    ///< the same, and of the state dict its tensors alone
  bool weights_only = false;    ///< what `torch.load(weights_only=True)` refuses becomes plain, or goes
  bool device_tag_cpu = false;  ///< every storage says that it lay on the CPU
  /// The last that means a key counts. A rule means tensors of the dtype's own kind (floating, complex,
  /// integer, bool), and any that its pattern names alone.
  std::vector<DtypeRule> dtypes;
  OnOverflow on_overflow = OnOverflow::kError;
  bool compact = false;  ///< views get storages of their own, dense and no larger than needed
  bool dedupe = false;   ///< storages with equal bytes become one
};

using Edit =
    std::variant<StripWrappers, FilterKeys, RenameKeys, DropEntries, MergeTensors, ReplaceHead, Convert>;

/// The edit's stable name, as plan files and reports spell it.
CKPT_EXPORT std::string_view edit_name(const Edit& edit);

/// What to do with optimizer state. It counts parameters by position, and may remember their names.
enum class OptimizerPolicy : std::uint8_t {
  kRemap,            ///< it follows the edits of keys, where it is proven which parameter is which
  kRemapModelOrder,  ///< and where nothing speaks against the order of the keys
  kKeep,             ///< it stays as it is
  kDrop,
};

/// "keep", "drop", as plan files and the command line spell them; empty: unsaid.
CKPT_EXPORT std::string_view optimizer_policy_name(OptimizerPolicy policy);
/// Errors: kUsage with the words that there are.
CKPT_EXPORT Result<OptimizerPolicy> parse_optimizer_policy(std::string_view name);

struct Plan {
  std::vector<Edit> edits;
  std::vector<std::string> roots;  ///< paths of the state dicts to edit; empty: all
  OptimizerPolicy optimizer = OptimizerPolicy::kRemap;
  bool allow_unmatched = false;  ///< patterns may match nothing
  Target target;
};

/// Does an edit read values of the file itself, so that its storages must be located?
CKPT_EXPORT bool reads_values(const Plan& plan);

/// "OLD=NEW", split at the last '='. Errors: kUsage.
CKPT_EXPORT Result<RenameRule> parse_rename_rule(std::string_view text);

/// "module" and "module." → "module". Errors: kUsage.
CKPT_EXPORT Result<std::string> parse_wrapper(std::string_view text);

/// "PATTERN=DTYPE", split at the last '=', or "DTYPE". Errors: kUsage.
CKPT_EXPORT Result<DtypeRule> parse_dtype_rule(std::string_view text);

/// "float32". Errors: kUsage with the nearest dtype.
CKPT_EXPORT Result<Dtype> parse_dtype(std::string_view name);

}  // namespace ckpt
