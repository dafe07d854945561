// SPDX-License-Identifier: BSD-3-Clause
// Tensors of other files in place of the base's. A tensor whose bytes lie in the order that the base wants
// is a range of its file, which the kernel will copy; any other is gathered when it is written.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/compute/gathered_source.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/key_alignment.h"
#include "ckpt/model/dense_order.h"
#include "ckpt/model/key_path.h"
#include "ckpt/model/state_dicts.h"

namespace ckpt {
namespace {

using Shape = std::vector<std::int64_t>;

/// A state dict of a source, by name.
struct Offer {
  const MergeSource* source = nullptr;
  std::uint32_t number = 0;  ///< of the source
  std::uint32_t dict = 0;    ///< in the source's checkpoint
  std::unordered_map<std::string, std::uint32_t> entries;
  std::uint64_t taken = 0;  ///< tensors

  const Checkpoint& checkpoint() const { return *source->checkpoint; }

  TensorId tensor(std::uint32_t entry) const { return checkpoint().state_dicts[dict].entries[entry].tensor; }
};

/// A key of an offer.
struct Offered {
  Offer* offer = nullptr;
  std::uint32_t entry = 0;

  explicit operator bool() const { return offer != nullptr; }

  const Checkpoint& checkpoint() const { return offer->checkpoint(); }

  const TensorInfo& tensor() const { return checkpoint().tensors[offer->tensor(entry)]; }
};

std::string at(const EditedStateDict& dict) {
  return dict.root.empty() ? std::string("the root") : quoted_path(dict.root);
}

std::vector<std::string> roots_of(const Checkpoint& checkpoint, const std::vector<std::uint32_t>& dicts) {
  std::vector<std::string> roots;
  for (const auto dict : dicts)
    roots.push_back(quoted_path(checkpoint.path(checkpoint.state_dicts[dict].place)));
  return roots;
}

Offer make_offer(const MergeSource& source, std::uint32_t number, std::uint32_t dict) {
  Offer offer{&source, number, dict, {}};
  const auto count = static_cast<std::uint32_t>(source.checkpoint->state_dicts[dict].entries.size());
  offer.entries.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (offer.tensor(i) != kNoIndex) offer.entries.emplace(source.checkpoint->original_name(dict, i), i);
  }
  return offer;
}

/// The offers of one state dict of the base, in the order of the files.
using Offers = std::vector<Offer>;

/// Pairs the state dicts of a source with those of the base: by path, or the only one with the only one.
Status pair(const MergeSource& source, std::uint32_t number, const EditContext& context,
            std::vector<Offers>& offers) {
  std::vector<std::string> wanted;
  if (source.root) wanted.push_back(*source.root);
  auto found = choose_state_dicts(*source.checkpoint, wanted);
  if (!found.ok()) return std::move(found).error().in_file(source.file);
  const auto& theirs = *found;
  const auto& ours = context.dicts;
  bool any = false;
  for (std::size_t i = 0; i < ours.size() && !source.root; ++i) {
    for (const auto dict : theirs) {
      const auto& checkpoint = *source.checkpoint;
      if (checkpoint.path(checkpoint.state_dicts[dict].place) != ours[i].root) continue;
      offers[i].push_back(make_offer(source, number, dict));
      any = true;
    }
  }
  if (any) return {};
  if (theirs.size() == 1 && ours.size() == 1) {
    offers.front().push_back(make_offer(source, number, theirs.front()));
    return {};
  }
  std::vector<std::string> roots;
  for (const auto& dict : ours) roots.push_back(quoted_path(dict.root));
  return Error(ErrorCode::kUsage,
               fmt::format("its state dicts ({}) don't pair with those of the base ({})",
                           fmt::join(roots_of(*source.checkpoint, theirs), ", "), fmt::join(roots, ", ")))
      .in_file(source.file)
      .with_hint("name one of the base's with --root PATH, one of the others' with --other-root PATH");
}

/// The last file that has `name` decides.
Offered last_with(Offers& offers, const std::string& name) {
  for (auto offer = offers.rbegin(); offer != offers.rend(); ++offer) {
    const auto found = offer->entries.find(name);
    if (found != offer->entries.end()) return {&*offer, found->second};
  }
  return {};
}

/// Brings tensors of the sources into the base: their bytes once, whoever views them.
class Importer {
 public:
  Importer(Checkpoint& base, std::size_t sources)
      : base_(base),
        first_part_(static_cast<std::uint32_t>(base.parts.size())),
        gathered_part_(first_part_ + static_cast<std::uint32_t>(sources)) {}

  /// A tensor of `dtype` with `strides` (empty: C order) and the values of `offered`.
  Result<TensorView> import(const Offered& offered, Dtype dtype, const Shape& strides,
                            std::string_view device) {
    const auto& other = offered.checkpoint();
    const auto& tensor = offered.tensor();
    CKPT_RETURN_IF_ERROR(check(offered, dtype));
    TensorView view{dtype, kNoIndex, 0, {}, {}};
    const auto sizes = other.shape(tensor);
    view.shape.assign(sizes.begin(), sizes.end());
    view.strides = strides;
    const auto order = dense_order(view.shape, strides);
    const auto old_strides = other.strides(tensor);
    Shape shape;
    Shape steps;
    for (const auto axis : *order) {
      shape.push_back(view.shape[axis]);
      steps.push_back(old_strides[axis]);
    }
    const bool whole_items = dtype_info(tensor.dtype).bits >= 8;
    const bool swapped = other.big_endian != base_.big_endian && !other.storages[tensor.storage].untyped &&
                         dtype_info(tensor.dtype).item_size > 1;
    const bool as_they_lie = !whole_items || (dtype == tensor.dtype && !swapped && is_c_order(shape, steps));
    const Key key{offered.offer->number,         tensor.storage, tensor.offset,      shape,
                  as_they_lie ? Shape{} : steps, dtype,          std::string(device)};
    const auto known = imported_.find(key);
    if (known != imported_.end()) {
      view.storage = known->second;
      return view;
    }
    const auto data =
        as_they_lie ? moved(offered) : gathered(offered, std::move(shape), std::move(steps), dtype, swapped);
    view.storage = base_.add_storage(data, dtype, device);
    imported_.emplace(key, view.storage);
    return view;
  }

  /// Adds the files that were used to the base's parts.
  void finish(const std::vector<MergeSource>& sources) {
    for (const auto& source : sources)
      base_.parts.push_back({source.checkpoint->parts.front().source, {}, {}});
    base_.parts.push_back({gathered_, {}, {}});
  }

 private:
  using Key = std::tuple<std::uint32_t, StorageId, std::uint64_t, Shape, Shape, Dtype, std::string>;

  Status check(const Offered& offered, Dtype dtype) const {
    const auto& other = offered.checkpoint();
    const auto& tensor = offered.tensor();
    const auto unsupported = [&](std::string why) {
      return Error(ErrorCode::kUnsupported, fmt::format("tensor {} {}", quoted(tensor.name), why))
          .in_file(offered.offer->source->file);
    };
    if (tensor.layout != TensorLayout::kStrided || tensor.storage == kNoIndex) {
      return unsupported(fmt::format("is of layout {}: only strided tensors can be merged",
                                     tensor_layout_name(tensor.layout)));
    }
    if (tensor.has(kConjugate) || tensor.has(kNegative))
      return unsupported("is lazily conjugated or negated, so its bytes are not its values");
    const auto& storage = other.storages[tensor.storage];
    if (storage.bytes > 0 && storage.extent.size == 0)
      return unsupported("lies in a compressed record, whose bytes can't be copied");
    if (dtype_info(tensor.dtype).bits < 8 && (other.format != base_.format || !tensor.has(kContiguous)))
      return unsupported("has values of less than a byte, which can't be converted");
    if (!can_convert(tensor.dtype, dtype)) {
      return unsupported(fmt::format("is of dtype {}, which can't be converted to {}",
                                     dtype_info(tensor.dtype).name, dtype_info(dtype).name));
    }
    return {};
  }

  DataRef moved(const Offered& offered) const {
    const auto& other = offered.checkpoint();
    const auto& tensor = offered.tensor();
    const auto& storage = other.storages[tensor.storage];
    const auto begin = tensor.offset * dtype_info(tensor.dtype).item_size;
    DataRef data{
        first_part_ + offered.offer->number, {storage.extent.offset + begin, other.bytes(tensor)}, {}, {}};
    if (storage.has_crc32 && data.extent.size == storage.extent.size) data.crc32 = storage.crc32;
    return data;
  }

  DataRef gathered(const Offered& offered, Shape shape, Shape steps, Dtype dtype, bool swapped) {
    const auto& other = offered.checkpoint();
    const auto& tensor = offered.tensor();
    const auto extent =
        gathered_->add({other.parts.front().source, other.storages[tensor.storage].extent.offset,
                        tensor.offset, std::move(shape), std::move(steps), tensor.dtype, dtype, swapped});
    return {gathered_part_, extent, {}, {}};
  }

  Checkpoint& base_;
  std::uint32_t first_part_;     ///< of the sources
  std::uint32_t gathered_part_;  ///< behind them
  std::shared_ptr<GatheredSource> gathered_ = std::make_shared<GatheredSource>("converted tensors");
  std::map<Key, StorageId> imported_;
};

/// What is merged into one state dict of the base.
class DictMerge {
 public:
  DictMerge(const MergeTensors& edit, EditContext& context, EditedStateDict& dict, Offers& offers,
            Importer& importer)
      : edit_(edit),
        base_(context.checkpoint),
        dict_(dict),
        offers_(offers),
        importer_(importer),
        report_(report_of(context.report, dict.root)) {}

  Status run() {
    compare_keys();
    CKPT_RETURN_IF_ERROR(check_equal());
    CKPT_RETURN_IF_ERROR(check_matches());
    for (auto& key : dict_.keys) {
      if (key.dropped) continue;
      if (const auto offered = last_with(offers_, key.name)) CKPT_RETURN_IF_ERROR(take(key, offered));
    }
    CKPT_RETURN_IF_ERROR(check_mismatches());
    if (edit_.keys == MergeTensors::Keys::kUnion) CKPT_RETURN_IF_ERROR(add_unknown());
    if (edit_.keys == MergeTensors::Keys::kIntersection) drop_lonely();
    report();
    for (const auto& offer : offers_) report_.taken.emplace_back(offer.source->file, offer.taken);
    return {};
  }

 private:
  bool all_have(const std::string& name) const {
    return std::all_of(offers_.begin(), offers_.end(),
                       [&](const Offer& offer) { return offer.entries.contains(name); });
  }

  void compare_keys() {
    std::unordered_set<std::string_view> known;
    for (const auto& key : dict_.keys) {
      if (key.dropped) continue;
      known.insert(key.name);
      if (key.tensor != kNoIndex && !last_with(offers_, key.name)) missing_.push_back(key.name);
    }
    std::unordered_set<std::string_view> seen;
    for (const auto& offer : offers_) {
      const auto count = offer.checkpoint().state_dicts[offer.dict].entries.size();
      for (std::uint32_t i = 0; i < count; ++i) {
        if (offer.tensor(i) == kNoIndex) continue;
        const auto name = offer.checkpoint().original_name(offer.dict, i);
        const auto owned = offer.entries.find(name);
        if (known.contains(name) || !seen.insert(owned->first).second) continue;
        unexpected_.push_back(name);
      }
    }
  }

  Status check_equal() const {
    if (edit_.keys != MergeTensors::Keys::kEqual) return {};
    for (const auto& key : dict_.keys) {
      if (key.dropped || key.tensor == kNoIndex) continue;
      for (const auto& offer : offers_) {
        if (offer.entries.contains(key.name)) continue;
        return Error(ErrorCode::kRefused, fmt::format("the key {} of the base is not in {} (--keys equal)",
                                                      quoted(key.name), quoted(offer.source->file)));
      }
    }
    if (unexpected_.empty()) return {};
    return Error(ErrorCode::kRefused,
                 fmt::format("the base has no key {} (--keys equal)", quoted(unexpected_.front())));
  }

  /// A file of which nothing fits was named by mistake, or its keys have another prefix.
  Status check_matches() const {
    std::vector<std::string> ours;
    for (const auto& key : dict_.keys) {
      if (!key.dropped && key.tensor != kNoIndex) ours.push_back(key.name);
    }
    for (const auto& offer : offers_) {
      const bool any = std::any_of(ours.begin(), ours.end(),
                                   [&](const auto& name) { return offer.entries.contains(name); });
      if (any || edit_.keys == MergeTensors::Keys::kUnion || ours.empty()) continue;
      std::vector<std::string> theirs;
      for (const auto& [name, entry] : offer.entries) theirs.push_back(name);
      Error error(ErrorCode::kNotFound, fmt::format("none of its {} is in the base at {}",
                                                    counted(theirs.size(), "key"), at(dict_)));
      const auto alignment = align_keys(theirs, ours);
      if (alignment.matches == 0) return std::move(error).in_file(offer.source->file);
      const auto command = alignment.strip.empty() ? "--add-prefix " + alignment.add
                           : alignment.add.empty() ? "--strip-prefix " + alignment.strip
                                                   : fmt::format("--strip-prefix {} --add-prefix {}",
                                                                 alignment.strip, alignment.add);
      return std::move(error)
          .in_file(offer.source->file)
          .with_hint(fmt::format("{} would match after: ckpt rename-keys {} {}",
                                 with_separators(alignment.matches), offer.source->file, command));
    }
    return {};
  }

  Shape shape_of(const Checkpoint& checkpoint, const TensorInfo& tensor) const {
    const auto shape = checkpoint.shape(tensor);
    return {shape.begin(), shape.end()};
  }

  Status take(EditedKey& key, const Offered& offered) {
    if (key.tensor == kNoIndex) return {};  // an _extra_state stays the base's
    const auto& theirs = offered.tensor();
    const auto ours = base_.tensors[key.tensor];  // a copy: the row changes
    auto their_shape = shape_of(offered.checkpoint(), theirs);
    auto our_shape = shape_of(base_, ours);
    const bool fits = their_shape == our_shape;
    if (!fits && edit_.on_shape_mismatch != MergeTensors::OnShapeMismatch::kTakeOther) {
      mismatched_.push_back({key.name, std::move(their_shape), std::move(our_shape)});
      return {};
    }
    auto dtype = theirs.dtype;
    if (dtype != ours.dtype) {
      if (edit_.on_dtype_mismatch == MergeTensors::OnDtypeMismatch::kError) {
        if (!other_dtype_) other_dtype_ = dtype_mismatch(key, ours.dtype, offered);
        return {};
      }
      if (edit_.on_dtype_mismatch == MergeTensors::OnDtypeMismatch::kToBase) dtype = ours.dtype;
    }
    const bool keeps_strides = fits && ours.layout == TensorLayout::kStrided && ours.storage != kNoIndex &&
                               dtype_info(dtype).bits >= 8;
    auto strides = keeps_strides ? base_.strides(ours) : Shape{};
    if (!dense_order(our_shape, strides)) strides.clear();
    const auto device =
        ours.storage == kNoIndex ? std::string("cpu") : base_.devices[base_.storages[ours.storage].device];
    CKPT_ASSIGN_OR_RETURN(const auto view, importer_.import(offered, dtype, strides, device));
    base_.replace(dict_.index, key.entry, view);
    ++offered.offer->taken;
    return {};
  }

  Error dtype_mismatch(const EditedKey& key, Dtype ours, const Offered& offered) const {
    return Error(ErrorCode::kRefused,
                 fmt::format("{} is of dtype {} in the base and {} in {}", quoted(key.name),
                             dtype_info(ours).name, dtype_info(offered.tensor().dtype).name,
                             quoted(offered.offer->source->file)))
        .with_hint("choose: --dtype base (values are converted) or --dtype other");
  }

  Status check_mismatches() const {
    if (other_dtype_) return *other_dtype_;
    if (mismatched_.empty() || edit_.on_shape_mismatch != MergeTensors::OnShapeMismatch::kError) return {};
    const auto& first = mismatched_.front();
    auto message = fmt::format(
        "size mismatch for {}: copying a param with shape {} from checkpoint, the shape in current model is "
        "{}.",
        printable(first.name), torch_size(first.in_file), torch_size(first.in_reference));
    const auto more = mismatched_.size() - 1;
    if (more > 0) message += fmt::format(" {} more {} not fit", more, more == 1 ? "does" : "do");
    return Error(ErrorCode::kRefused, std::move(message))
        .with_hint("choose: --on-shape-mismatch keep-base or --on-shape-mismatch take-other");
  }

  /// Keys that only others have, behind the base's, in the order of the files.
  Status add_unknown() {
    std::unordered_set<std::string> known;
    for (const auto& key : dict_.keys) {
      if (!key.dropped) known.insert(key.name);
    }
    for (const auto& offer : offers_) {
      const auto count = offer.checkpoint().state_dicts[offer.dict].entries.size();
      for (std::uint32_t i = 0; i < count; ++i) {
        if (offer.tensor(i) == kNoIndex) continue;
        const auto name = offer.checkpoint().original_name(offer.dict, i);
        if (!known.insert(name).second) continue;
        const auto offered = last_with(offers_, name);
        const auto& theirs = offered.tensor();
        auto strides = offered.checkpoint().strides(theirs);
        if (!dense_order(shape_of(offered.checkpoint(), theirs), strides)) strides.clear();
        const auto device =
            theirs.storage == kNoIndex
                ? std::string("cpu")
                : offered.checkpoint().devices[offered.checkpoint().storages[theirs.storage].device];
        CKPT_ASSIGN_OR_RETURN(auto view, importer_.import(offered, theirs.dtype, strides, device));
        view.requires_grad = theirs.has(kRequiresGrad);
        base_.insert(dict_.index, name, view);
        ++offered.offer->taken;
        const auto entry = static_cast<std::uint32_t>(base_.state_dicts[dict_.index].entries.size() - 1);
        const auto row = base_.state_dicts[dict_.index].entries[entry].tensor;
        dict_.keys.push_back({base_.tensors[row].name, name, row, entry, false});
        report_.added.push_back(name);
      }
    }
    return {};
  }

  void drop_lonely() {
    for (auto& key : dict_.keys) {
      if (!key.dropped && key.tensor != kNoIndex && !all_have(key.name)) key.dropped = true;
    }
  }

  /// Behind what edits before have said.
  void report() {
    const auto append = [](const auto& from, auto& to) { to.insert(to.end(), from.begin(), from.end()); };
    append(missing_, report_.missing);
    if (edit_.keys != MergeTensors::Keys::kUnion) append(unexpected_, report_.unexpected);
    append(mismatched_, report_.mismatched);
  }

  const MergeTensors& edit_;
  Checkpoint& base_;
  EditedStateDict& dict_;
  Offers& offers_;
  Importer& importer_;
  StateDictReport& report_;
  std::vector<std::string> missing_;     ///< keys of the base that no other has
  std::vector<std::string> unexpected_;  ///< keys that only others have
  std::vector<ShapeMismatch> mismatched_;
  std::optional<Error> other_dtype_;  ///< the first one, where it decides
};

/// Groups of keys on one view, by what they view.
using Ties =
    std::map<std::tuple<StorageId, std::uint64_t, Shape>, std::vector<std::pair<std::string, TensorId>>>;

Ties ties_of(const EditContext& context) {
  Ties ties;
  for (const auto& dict : context.dicts) {
    for (const auto& key : dict.keys) {
      if (key.dropped || key.tensor == kNoIndex) continue;
      const auto& tensor = context.checkpoint.tensors[key.tensor];
      if (tensor.storage == kNoIndex || context.checkpoint.numel(tensor) == 0) continue;
      const auto shape = context.checkpoint.shape(tensor);
      ties[{tensor.storage, tensor.offset, Shape(shape.begin(), shape.end())}].emplace_back(key.name,
                                                                                            key.tensor);
    }
  }
  std::erase_if(ties, [](const auto& tie) { return tie.second.size() < 2; });
  return ties;
}

void note_broken_ties(const Ties& ties, EditContext& context) {
  for (const auto& [view, keys] : ties) {
    std::set<StorageId> storages;
    for (const auto& [name, tensor] : keys) storages.insert(context.checkpoint.tensors[tensor].storage);
    if (storages.size() < 2) continue;
    context.report.notes.push_back(fmt::format("{} and {} were one tensor in the base and are {} now",
                                               quoted(keys[0].first), quoted(keys[1].first),
                                               storages.size()));
  }
}

}  // namespace

Status apply_merge(const MergeTensors& edit, EditContext& context) {
  std::vector<Offers> offers(context.dicts.size());
  for (std::uint32_t i = 0; i < edit.sources.size(); ++i)
    CKPT_RETURN_IF_ERROR(pair(edit.sources[i], i, context, offers));
  const auto ties = ties_of(context);
  Importer importer(context.checkpoint, edit.sources.size());
  for (std::size_t i = 0; i < offers.size(); ++i) {
    if (offers[i].empty()) continue;
    CKPT_RETURN_IF_ERROR(DictMerge(edit, context, context.dicts[i], offers[i], importer).run());
  }
  importer.finish(edit.sources);
  note_broken_ties(ties, context);
  return {};
}

}  // namespace ckpt
