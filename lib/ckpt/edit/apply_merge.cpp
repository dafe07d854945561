// SPDX-License-Identifier: BSD-3-Clause
// Tensors of other files in place of the base's.
#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/merge_dict.h"
#include "ckpt/edit/merge_methods.h"
#include "ckpt/edit/surroundings.h"

namespace ckpt {
namespace {

/// What the others have replaces what the base has.
class DictUpdate final : public DictMerge {
 public:
  using DictMerge::DictMerge;

 private:
  Status take(EditedKey& key) override {
    const auto offered = last_with(offers_, key.name);
    if (!fits_or_goes(key, offered)) return {};
    const auto ours = base_.tensors[key.tensor].dtype;
    auto dtype = offered.tensor().dtype;
    if (dtype != ours && edit_.on_dtype_mismatch == MergeTensors::OnDtypeMismatch::kError) {
      if (!other_dtype_) other_dtype_ = dtype_mismatch(key, ours, offered);
      return {};
    }
    if (edit_.on_dtype_mismatch == MergeTensors::OnDtypeMismatch::kToBase) dtype = ours;
    return replace(key, offered, dtype);
  }

  Status add(const std::string& name) override {
    const auto offered = last_with(offers_, name);
    return add_from(offered, name, offered.tensor().dtype);
  }

  Error dtype_mismatch(const EditedKey& key, Dtype ours, const Offered& offered) const {
    return Error(ErrorCode::kRefused,
                 fmt::format("{} is of dtype {} in the base and {} in {}", quoted(key.name),
                             dtype_info(ours).name, dtype_info(offered.tensor().dtype).name,
                             quoted(offered.offer->source->file)))
        .with_hint("choose: --dtype base (values are converted) or --dtype other");
  }
};

/// Groups of keys on one view, by what they view, and what else in the file is on it.
using View = std::tuple<StorageId, std::uint64_t, Shape>;
using Ties = std::map<View, std::vector<std::pair<std::string, TensorId>>>;

/// The object in the first document that a tensor is; none for tensors of other documents.
std::optional<Use> object_of(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  const bool is_one = tensor.use != kNoUse && tensor.place != kNoIndex && checkpoint.has_document() &&
                      checkpoint.places[tensor.place].document == 0;
  if (!is_one) return std::nullopt;
  return checkpoint.graph().resolve(tensor.use);
}

Ties ties_of(const EditContext& context) {
  const auto& checkpoint = context.checkpoint;
  const auto view_of = [&](const TensorInfo& tensor) {
    const auto shape = checkpoint.shape(tensor);
    return View{tensor.storage, tensor.offset, Shape(shape.begin(), shape.end())};
  };
  Ties ties;
  std::vector<bool> has_key(checkpoint.tensors.size());
  std::unordered_set<Use> changing;  // objects of modules, which change for all that has them
  for (const auto& dict : context.dicts) {
    const bool of_module = checkpoint.state_dicts[dict.index].of_module;
    for (const auto& key : dict.keys) {
      if (key.dropped || key.tensor == kNoIndex) continue;
      has_key[key.tensor] = true;
      const auto& tensor = checkpoint.tensors[key.tensor];
      if (const auto object = object_of(checkpoint, tensor); of_module && object) changing.insert(*object);
      if (tensor.storage == kNoIndex || checkpoint.numel(tensor) == 0) continue;
      ties[view_of(tensor)].emplace_back(key.name, key.tensor);
    }
  }
  const Surroundings around(context);
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& tensor = checkpoint.tensors[id];
    if (has_key[id] || tensor.storage == kNoIndex || tensor.place == kNoIndex || !around.is_kept(id))
      continue;
    if (const auto object = object_of(checkpoint, tensor); object && changing.contains(*object)) continue;
    const auto found = ties.find(view_of(tensor));
    if (found != ties.end()) found->second.emplace_back(checkpoint.path(tensor.place), id);
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

/// A key whose tensor has elements of a storage, from the first to the last of these.
struct Span {
  std::uint64_t first;
  std::uint64_t last;
  std::string_view name;
  TensorId tensor;
};

struct Overlap {
  std::string name;
  std::string other_name;
  TensorId tensor;
  TensorId other;
};

/// Keys whose tensors lie over one another without being one: a whole and its parts.
std::vector<Overlap> overlaps_of(const EditContext& context) {
  const auto& checkpoint = context.checkpoint;
  std::map<StorageId, std::vector<Span>> spans;
  for (const auto& dict : context.dicts) {
    for (const auto& key : dict.keys) {
      if (key.dropped || key.tensor == kNoIndex) continue;
      const auto& tensor = checkpoint.tensors[key.tensor];
      const bool lies = tensor.layout == TensorLayout::kStrided && tensor.storage != kNoIndex;
      if (!lies || checkpoint.numel(tensor) == 0) continue;
      const auto shape = checkpoint.shape(tensor);
      const auto strides = checkpoint.strides(tensor);
      auto last = tensor.offset;
      for (std::size_t axis = 0; axis < shape.size(); ++axis)
        last += static_cast<std::uint64_t>(shape[axis] - 1) * static_cast<std::uint64_t>(strides[axis]);
      spans[tensor.storage].push_back({tensor.offset, last, key.name, key.tensor});
    }
  }
  const auto are_one = [&](const Span& a, const Span& b) {
    const auto shape = checkpoint.shape(checkpoint.tensors[a.tensor]);
    const auto other = checkpoint.shape(checkpoint.tensors[b.tensor]);
    return a.first == b.first && std::equal(shape.begin(), shape.end(), other.begin(), other.end());
  };
  std::vector<Overlap> out;
  for (auto& [storage, there] : spans) {
    std::stable_sort(there.begin(), there.end(),
                     [](const Span& a, const Span& b) { return a.first < b.first; });
    std::size_t farthest = 0;
    for (std::size_t i = 1; i < there.size(); ++i) {
      const auto& before = there[farthest];
      const auto& span = there[i];
      if (span.first <= before.last && !are_one(before, span) && !are_one(there[i - 1], span))
        out.push_back({std::string(before.name), std::string(span.name), before.tensor, span.tensor});
      if (span.last > before.last) farthest = i;
    }
  }
  return out;
}

void note_parted(const std::vector<Overlap>& overlaps, EditContext& context) {
  const auto storage_of = [&](TensorId tensor) { return context.checkpoint.tensors[tensor].storage; };
  const Overlap* first = nullptr;
  std::uint64_t parted = 0;
  for (const auto& overlap : overlaps) {
    if (storage_of(overlap.tensor) == storage_of(overlap.other)) continue;
    if (first == nullptr) first = &overlap;
    ++parted;
  }
  if (first == nullptr) return;
  auto note = fmt::format("{} and {} lay over one another in the base and do not now", quoted(first->name),
                          quoted(first->other_name));
  if (parted > 1) note += fmt::format(", nor do {} more", counted(parted - 1, "pair"));
  context.report.notes.push_back(std::move(note));
}

Status update(const MergeTensors& edit, EditContext& context, std::vector<Offers>& offers) {
  Importer importer(context.checkpoint, edit.sources.size(), context.report.merge_casts);
  for (std::size_t i = 0; i < offers.size(); ++i) {
    if (offers[i].empty()) continue;
    CKPT_RETURN_IF_ERROR(DictUpdate(edit, context, context.dicts[i], offers[i], importer).run());
  }
  importer.finish(edit.sources);
  return {};
}

}  // namespace

Status apply_merge(const MergeTensors& edit, EditContext& context) {
  if (edit.method) CKPT_RETURN_IF_ERROR(check_recipe(*edit.method, edit.sources.size() + 1));
  const auto ties = ties_of(context);
  const auto overlaps = overlaps_of(context);
  if (edit.method && edit.method->method == MergeMethod::kLora) {
    CKPT_RETURN_IF_ERROR(apply_merge_adapters(edit, context));
  } else {
    CKPT_ASSIGN_OR_RETURN(auto offers, pair_sources(edit, context));
    CKPT_RETURN_IF_ERROR(edit.method ? apply_merge_method(edit, context, offers)
                                     : update(edit, context, offers));
  }
  note_broken_ties(ties, context);
  note_parted(overlaps, context);
  return {};
}

}  // namespace ckpt
