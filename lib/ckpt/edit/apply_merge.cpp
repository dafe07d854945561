// SPDX-License-Identifier: BSD-3-Clause
// Tensors of other files in place of the base's.
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/edit/edits.h"
#include "ckpt/edit/merge_dict.h"
#include "ckpt/edit/merge_methods.h"

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

  Status add(const std::string& name) override { return add_from(last_with(offers_, name), name); }

  Error dtype_mismatch(const EditedKey& key, Dtype ours, const Offered& offered) const {
    return Error(ErrorCode::kRefused,
                 fmt::format("{} is of dtype {} in the base and {} in {}", quoted(key.name),
                             dtype_info(ours).name, dtype_info(offered.tensor().dtype).name,
                             quoted(offered.offer->source->file)))
        .with_hint("choose: --dtype base (values are converted) or --dtype other");
  }
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

Status update(const MergeTensors& edit, EditContext& context, std::vector<Offers>& offers) {
  Importer importer(context.checkpoint, edit.sources.size());
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
  if (edit.method && edit.method->method == MergeMethod::kLora) {
    CKPT_RETURN_IF_ERROR(apply_merge_adapters(edit, context));
  } else {
    CKPT_ASSIGN_OR_RETURN(auto offers, pair_sources(edit, context));
    CKPT_RETURN_IF_ERROR(edit.method ? apply_merge_method(edit, context, offers)
                                     : update(edit, context, offers));
  }
  note_broken_ties(ties, context);
  return {};
}

}  // namespace ckpt
