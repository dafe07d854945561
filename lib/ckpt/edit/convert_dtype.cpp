// SPDX-License-Identifier: BSD-3-Clause
// Tensors become values of another dtype. A storage whose views all become the same is cast as a whole, and
// they view the new one as they did the old; else each view is cast on its own. Tensors that are one object
// in the file stay one.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/compute/lazy_bits.h"
#include "ckpt/edit/conversions.h"
#include "ckpt/edit/storage_bytes.h"
#include "ckpt/edit/surroundings.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/optimizer_state.h"

namespace ckpt {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::uint64_t kMost = std::uint64_t{1} << 62U;  // bytes that an output may ask for

/// A row that is cast.
struct Wanted {
  Dtype to;
  std::optional<CastKey> key;  ///< none: it is the same object as one that has a key
};

bool names_exactly(const NamePattern& pattern, std::string_view key) {
  return pattern.text() == key || (pattern.text().starts_with('=') && pattern.text().substr(1) == key);
}

std::string_view kind_name(DtypeClass kind) {
  switch (kind) {
    case DtypeClass::kFloat: return "floating";
    case DtypeClass::kComplex: return "complex";
    case DtypeClass::kInteger: return "integer";
    case DtypeClass::kBool: return "bool";
    case DtypeClass::kQuantized: return "quantised";
    case DtypeClass::kBits: return "bits";
  }
  return "";
}

/// Floats that PyTorch has no negatives of; some of these dtypes have none.
bool is_float8(Dtype dtype) {
  return dtype_info(dtype).dtype_class == DtypeClass::kFloat && dtype_info(dtype).item_size == 1;
}

/// The values of a lazily negated tensor are cast, where the negative of its cast bytes would be something
/// else: an integer has one that is none (-128), and a wider one has it.
bool resolves(const TensorInfo& row, Dtype to) {
  const bool stays = is_differentiable(row.dtype) && is_differentiable(to) && !is_float8(to);
  return row.has(kNegative) && !stays;
}

/// Bits of a tensor that the result has not: its values are cast.
LazyBits gone_bits(const TensorInfo& row, Dtype to) {
  return resolves(row, to) ? lazy_bits_of(row) : LazyBits{};
}

class Casting {
 public:
  Casting(const Convert& edit, EditContext& context)
      : edit_(edit),
        context_(context),
        checkpoint_(context.checkpoint),
        around_(context),
        part_(static_cast<std::uint32_t>(checkpoint_.parts.size())) {
    report_.on_overflow = edit.on_overflow;
    means_.resize(edit.dtypes.size());
  }

  Status run() {
    for (const auto& rule : edit_.dtypes) {
      if (rule.pattern) CKPT_RETURN_IF_ERROR(require_match(*rule.pattern, context_));
    }
    CKPT_RETURN_IF_ERROR(apply_rules());
    note_rules();
    CKPT_RETURN_IF_ERROR(follow_objects());
    for (const auto& [storage, rows] : rows_by_storage()) CKPT_RETURN_IF_ERROR(cast_storage(storage, rows));
    checkpoint_.parts.push_back({gathered_, {}, {}});  // storages without bytes are in it, too
    note_optimizers();
    add_report();
    return {};
  }

 private:
  // ---- which rows

  Status apply_rules() {
    for (const auto& dict : context_.dicts) {
      for (const auto& key : dict.keys) {
        if (key.dropped || key.tensor == kNoIndex || !around_.is_kept(key.tensor)) continue;
        const auto* rule = rule_for(key);
        if (rule == nullptr) continue;
        CKPT_RETURN_IF_ERROR(want(key.tensor, {dict.root, key.name}, *rule));
      }
    }
    return {};
  }

  /// The last that means the key. Only one that names it alone changes the kind of its numbers.
  const DtypeRule* rule_for(const EditedKey& key) {
    const auto kind = dtype_info(checkpoint_.tensors[key.tensor].dtype).dtype_class;
    const DtypeRule* found = nullptr;
    for (std::size_t i = 0; i < edit_.dtypes.size(); ++i) {
      const auto& rule = edit_.dtypes[i];
      if (rule.pattern && !rule.pattern->matches(key.name)) continue;
      const bool is_same_kind = kind == dtype_info(rule.dtype).dtype_class;
      if (!is_same_kind && !(rule.pattern && names_exactly(*rule.pattern, key.name))) continue;
      found = &rule;
      means_[i] = true;
    }
    return found;
  }

  Status want(TensorId id, CastKey key, const DtypeRule& rule) {
    const auto& row = checkpoint_.tensors[id];
    if (row.dtype == rule.dtype) {
      if (wanted_.contains(id)) return two_dtypes(id, rule.dtype);
      stays_.insert(id);
      return {};
    }
    const auto refuse = [&](ErrorCode code, std::string_view why) {
      return Error(code, fmt::format("tensor {} {}", quoted(key.name), why));
    };
    if (row.layout != TensorLayout::kStrided || row.storage == kNoIndex) {
      report_.left.push_back({std::move(key), fmt::format("layout {}", tensor_layout_name(row.layout))});
      return {};
    }
    if (!can_convert(row.dtype, rule.dtype)) {
      if (!rule.pattern || !names_exactly(*rule.pattern, key.name)) {
        report_.left.push_back({std::move(key), fmt::format("dtype {}", dtype_info(row.dtype).name)});
        return {};
      }
      return refuse(ErrorCode::kUnsupported,
                    fmt::format("is {}, which can't become {}", dtype_info(row.dtype).name,
                                dtype_info(rule.dtype).name));
    }
    if (row.has(kRequiresGrad) && !is_differentiable(rule.dtype)) {
      return refuse(ErrorCode::kRefused,
                    fmt::format("requires a gradient, which {} can't have", dtype_info(rule.dtype).name));
    }
    const bool is_object = row.use != kNoUse && row.has(kRequiresGrad) && !row.has(kIsParameter);
    const auto obstacle = is_object ? gradient_obstacle(checkpoint_, rule.dtype) : std::nullopt;
    if (obstacle) return refuse(ErrorCode::kUnsupported, *obstacle);
    if (resolves(row, rule.dtype) && is_float8(row.dtype)) {
      return refuse(ErrorCode::kUnsupported,
                    fmt::format("is lazily negated, and PyTorch negates no {}", dtype_info(row.dtype).name));
    }
    const auto wanted = wanted_.try_emplace(id, Wanted{rule.dtype, std::move(key)});
    if (!wanted.second && wanted.first->second.to != rule.dtype) return two_dtypes(id, rule.dtype);
    if (stays_.contains(id)) return two_dtypes(id, row.dtype);
    return {};
  }

  Error two_dtypes(TensorId id, Dtype other) const {
    const auto& [to, key] = wanted_.at(id);
    return Error(
        ErrorCode::kRefused,
        fmt::format("tensor {} would become both {} and {}, and it is one",
                    key ? quoted(key->name) : quoted_path(checkpoint_.path(checkpoint_.tensors[id].place)),
                    dtype_info(to).name, dtype_info(other).name));
  }

  /// Rows that are the same object as one that is cast are cast with it, wherever they stand.
  Status follow_objects() {
    if (!checkpoint_.has_document()) return {};
    std::unordered_map<Use, TensorId> objects;
    for (const auto& [id, wanted] : wanted_) {
      if (!is_object(id)) continue;
      const auto [found, is_new] = objects.emplace(object(id), id);
      if (!is_new && wanted_.at(found->second).to != wanted.to) return two_dtypes(found->second, wanted.to);
    }
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) {
      if (!is_object(id) || wanted_.contains(id)) continue;
      const auto found = objects.find(object(id));
      if (found == objects.end()) continue;
      if (stays_.contains(id)) return two_dtypes(found->second, checkpoint_.tensors[id].dtype);
      wanted_.emplace(id, Wanted{wanted_.at(found->second).to, std::nullopt});
      note_follower(id, found->second);
    }
    return {};
  }

  /// A key that no rule means.
  void note_follower(TensorId id, TensorId leader) {
    const auto& row = checkpoint_.tensors[id];
    const auto& key = wanted_.at(leader).key;
    if (row.state_dict == kNoIndex || !key) return;
    context_.report.notes.push_back(
        fmt::format("{} is the same tensor as {} and is cast with it", quoted(row.name), quoted(key->name)));
  }

  bool is_object(TensorId id) const {
    const auto& row = checkpoint_.tensors[id];
    return row.use != kNoUse && row.place != kNoIndex && checkpoint_.places[row.place].document == 0 &&
           !row.has(kReplaced) && !row.has(kInserted);
  }

  Use object(TensorId id) const { return checkpoint_.graph().resolve(checkpoint_.tensors[id].use); }

  std::map<StorageId, std::vector<TensorId>> rows_by_storage() const {
    std::map<StorageId, std::vector<TensorId>> found;
    for (const auto& [id, wanted] : wanted_) found[checkpoint_.tensors[id].storage];
    for (TensorId id = 0; id < checkpoint_.tensors.size(); ++id) {
      const auto storage = found.find(checkpoint_.tensors[id].storage);
      if (storage != found.end() && (around_.is_kept(id) || wanted_.contains(id)))
        storage->second.push_back(id);
    }
    return found;
  }

  // ---- values

  Status cast_storage(StorageId storage, const std::vector<TensorId>& rows) {
    auto data = data_of(checkpoint_, storage);
    if (!data.ok()) {
      const auto first =
          std::find_if(rows.begin(), rows.end(), [&](TensorId id) { return wanted_.contains(id); });
      const auto path = checkpoint_.path(checkpoint_.tensors[*first].place);
      return Error(data.error().code(),
                   fmt::format("tensor {}: {}", quoted_path(path), data.error().message()));
    }
    const bool is_one = is_cast_as_one(storage, rows);
    if (is_one && !edit_.compact) {
      cast_whole(storage, *data, rows);
      return {};
    }
    const bool is_mixed = rows.size() > 1 && !is_one;
    for (const bool has_key : {true, false}) {  // who has one names what others share with it
      for (const auto id : rows) {
        const auto wanted = wanted_.find(id);
        if (wanted == wanted_.end() || wanted->second.key.has_value() != has_key) continue;
        CKPT_RETURN_IF_ERROR(cast_alone(id, wanted->second, *data));
        if (is_mixed && has_key) report_.separated.push_back(wanted->second.key->name);
      }
    }
    return {};
  }

  bool is_cast_as_one(StorageId storage, const std::vector<TensorId>& rows) const {
    const auto from = checkpoint_.tensors[rows.front()].dtype;
    const auto first = wanted_.find(rows.front());
    if (first == wanted_.end() || checkpoint_.storages[storage].bytes % dtype_info(from).item_size != 0)
      return false;
    const auto to = first->second.to;
    const bool resolved = resolves(checkpoint_.tensors[rows.front()], to);
    return std::all_of(rows.begin(), rows.end(), [&](TensorId id) {
      const auto& row = checkpoint_.tensors[id];
      const auto wanted = wanted_.find(id);
      return wanted != wanted_.end() && wanted->second.to == to && row.dtype == from &&
             resolves(row, to) == resolved;
    });
  }

  void cast_whole(StorageId storage, const DataRef& data, const std::vector<TensorId>& rows) {
    const auto& row = checkpoint_.tensors[rows.front()];
    const auto from = row.dtype;
    const auto to = wanted_.at(rows.front()).to;
    const auto count = static_cast<std::int64_t>(data.size() / dtype_info(from).item_size);
    std::optional<Shape> shape;
    if (std::all_of(rows.begin(), rows.end(),
                    [&](TensorId id) { return covers(checkpoint_.tensors[id], count); }))
      shape = shape_of(row);
    std::vector<CastKey> keys;
    for (const auto id : rows) {
      if (const auto& key = wanted_.at(id).key) keys.push_back(*key);
    }
    const auto lazy = gone_bits(row, to);
    const auto made = cast(storage, data, {0, {count}, {1}, lazy}, from, to, keys, std::move(shape));
    for (const auto id : rows) {
      const auto view = checkpoint_.tensors[id];  // a copy: the row changes
      checkpoint_.recast(id, to, made, view.offset,
                         view.has(kContiguous) ? Shape() : checkpoint_.strides(view));
      if (lazy.negative) checkpoint_.resolve_lazy_bits(id);
    }
  }

  bool covers(const TensorInfo& row, std::int64_t count) const {
    return row.has(kContiguous) && row.offset == 0 &&
           checkpoint_.numel(row) == static_cast<std::uint64_t>(count);
  }

  /// The tensor gets a storage of its own: in the order in which it lies if that has no gaps, else in C
  /// order.
  Status cast_alone(TensorId id, const Wanted& wanted, const DataRef& data) {
    const auto row = checkpoint_.tensors[id];  // a copy: the row changes
    added_ = checked_add(added_, checkpoint_.bytes(row)).value_or(kMost);
    if (added_ >= kMost) {
      return Error(ErrorCode::kUnsupported,
                   fmt::format("tensor {} views its storage so often that it can't have one of its own",
                               quoted_path(checkpoint_.path(row.place))));
    }
    auto shape = shape_of(row);
    auto strides = checkpoint_.strides(row);
    const auto order = dense_order(shape, strides);
    const bool keeps_order = order.has_value() && !row.has(kContiguous);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1 && !keeps_order) strides[i] = 0;  // any would do
    }
    const auto lazy = gone_bits(row, wanted.to);
    const Key key{row.storage, row.offset, shape, strides, lazy.negative, row.dtype, wanted.to};
    const auto made = made_.try_emplace(key, kNoIndex);
    if (made.second) {
      Shape sizes = shape;
      Shape steps = strides;
      if (keeps_order) {
        sizes = {static_cast<std::int64_t>(checkpoint_.numel(row))};
        steps = {1};
      }
      std::vector<CastKey> keys;
      if (wanted.key) keys.push_back(*wanted.key);
      made.first->second =
          cast(row.storage, data, {row.offset, std::move(sizes), std::move(steps), lazy}, row.dtype,
               wanted.to, keys, keeps_order ? std::nullopt : std::optional(shape));
    } else if (wanted.key) {
      report_.casts[cast_of_[made.first->second]].keys.push_back(*wanted.key);
    }
    checkpoint_.recast(id, wanted.to, made.first->second, 0, keeps_order ? strides : Shape());
    if (lazy.negative) checkpoint_.resolve_lazy_bits(id);
    return {};
  }

  /// What of a storage is cast.
  struct Part {
    std::uint64_t offset;  ///< elements
    Shape shape;
    Shape strides;
    LazyBits lazy;  ///< that don't stay on the result
  };

  /// A storage of the kind that the old one is, with `to` values of what `data` holds.
  StorageId cast(StorageId storage, const DataRef& data, Part part, Dtype from, Dtype to,
                 const std::vector<CastKey>& keys, std::optional<Shape> position) {
    const auto old = checkpoint_.storages[storage];
    const auto placed = source_of(checkpoint_, data);
    Gather gather{placed.source,           placed.offset, part.offset, std::move(part.shape),
                  std::move(part.strides), from,          to};
    gather.lazy = part.lazy;
    gather.swapped = has_turned_bytes(checkpoint_, old, from);
    gather.result_swapped = takes_turned_bytes(checkpoint_, to);
    if (may_lose_values(from, to) && !keys.empty()) {
      gather.watch = std::make_shared<CastWatch>(from, to, edit_.on_overflow,
                                                 "tensor " + quoted(keys.front().name), std::move(position));
    }
    const auto numel = gather.numel();
    report_.casts.push_back({keys, from, to, numel, gather.watch});
    report_.bytes_before += numel * dtype_info(from).item_size;
    report_.bytes_after += numel * dtype_info(to).item_size;
    const auto extent = gathered_->add(std::move(gather));
    const auto made = checkpoint_.add_storage({part_, extent, {}, {}}, to, checkpoint_.devices[old.device]);
    cast_of_.emplace(made, report_.casts.size() - 1);
    return made;
  }

  Shape shape_of(const TensorInfo& row) const {
    const auto sizes = checkpoint_.shape(row);
    return {sizes.begin(), sizes.end()};
  }

  /// A rule that no tensor is of the kind for would do nothing in silence.
  void note_rules() {
    for (std::size_t i = 0; i < edit_.dtypes.size(); ++i) {
      const auto& [pattern, dtype] = edit_.dtypes[i];
      if (means_[i] || (pattern && !matches_a_key(*pattern))) continue;
      context_.report.notes.push_back(fmt::format(
          "nothing becomes {}: {} {} tensor; only a rule that names one key (KEY={}) changes the kind of its "
          "numbers",
          dtype_info(dtype).name, pattern ? quoted(pattern->text()) + " means no" : "there is no",
          kind_name(dtype_info(dtype).dtype_class), dtype_info(dtype).name));
    }
  }

  bool matches_a_key(const NamePattern& pattern) const {
    for (const auto& dict : context_.dicts) {
      for (const auto& key : dict.keys) {
        if (!key.dropped && key.tensor != kNoIndex && pattern.matches(key.name)) return true;
      }
    }
    return false;
  }

  void note_optimizers() {
    if (report_.casts.empty() || checkpoint_.has_new_root()) return;
    for (const auto optimizer : optimizers_of(checkpoint_)) {
      context_.report.notes.push_back(
          fmt::format("the optimizer state at {} keeps its dtypes",
                      quoted_path(checkpoint_.path(checkpoint_.mappings[optimizer].place))));
    }
  }

  /// Behind what a conversion before has said.
  void add_report() {
    auto& all = context_.report.conversion->cast;
    if (!all) {
      all = std::move(report_);
      return;
    }
    const auto append = [](auto& from, auto& to) { to.insert(to.end(), from.begin(), from.end()); };
    append(report_.casts, all->casts);
    append(report_.left, all->left);
    append(report_.separated, all->separated);
    all->bytes_before += report_.bytes_before;
    all->bytes_after += report_.bytes_after;
    all->on_overflow = report_.on_overflow;
  }

  /// By storage and what of it, whether it is negated, and what it becomes.
  using Key = std::tuple<StorageId, std::uint64_t, Shape, Shape, bool, Dtype, Dtype>;

  const Convert& edit_;
  EditContext& context_;
  Checkpoint& checkpoint_;
  Surroundings around_;
  CastReport report_;
  std::vector<bool> means_;  ///< by rule: is there a tensor that it is for?
  std::map<TensorId, Wanted> wanted_;
  std::set<TensorId> stays_;  ///< rows of which a rule says the dtype that they have
  std::map<Key, StorageId> made_;
  std::unordered_map<StorageId, std::size_t> cast_of_;  ///< index in the report, by the storage that was made
  std::shared_ptr<GatheredSource> gathered_ = std::make_shared<GatheredSource>("cast tensors");
  std::uint32_t part_;       ///< of `gathered_`
  std::uint64_t added_ = 0;  ///< bytes
};

}  // namespace

Status cast_tensors(const Convert& edit, EditContext& context) {
  return Casting(edit, context).run();
}

}  // namespace ckpt
