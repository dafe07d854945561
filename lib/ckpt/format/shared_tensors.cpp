// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/format/shared_tensors.h"

#include <algorithm>

#include <fmt/format.h>

#include "ckpt/base/text.h"

namespace ckpt {

Status SharedTensors::find(const Checkpoint& checkpoint) {
  checkpoint_ = &checkpoint;
  const auto& graph = checkpoint.graph();
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    if (row.has(kReplaced) && row.use != kNoUse) objects_[graph.resolve(row.use)].row = id;
  }
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto& row = checkpoint.tensors[id];
    if (row.state_dict != kNoIndex && !row.has(kIsPart) && row.use != kNoUse)
      CKPT_RETURN_IF_ERROR(add_key(id));
  }
  for (auto& [node, object] : objects_) object.elsewhere = !object.keys.contains(node);
  std::unordered_set<Use> repeated;
  for (Use node = 0; node < graph.size(); ++node) {
    if (!graph.repeats(node)) continue;
    const auto found = objects_.find(graph.resolve(node));
    if (found == objects_.end()) continue;
    repeated.insert(found->first);
    if (!found->second.keys.contains(node)) found->second.elsewhere = true;
  }
  std::erase_if(objects_, [&](const auto& item) { return !repeated.contains(item.first); });
  for (const auto& [node, object] : objects_) CKPT_RETURN_IF_ERROR(check(object));
  return {};
}

/// What stands under the key of row `id` is one object with what stands under others.
Status SharedTensors::add_key(TensorId id) {
  const auto& row = checkpoint_->tensors[id];
  const auto found = objects_.find(checkpoint_->graph().resolve(row.use));
  if (found == objects_.end()) return {};
  auto& object = found->second;
  const auto& first = checkpoint_->tensors[object.row];
  const bool same = row.has(kReplaced) && same_view(first, row);
  object.as_one = object.as_one && same;
  const bool is_new = object.keys.insert(row.use).second;
  if (is_new || same) return {};
  return Error(ErrorCode::kUnsupported,
               fmt::format("{} and {} are one attribute of a module that stands in two places; they can't be "
                           "different tensors",
                           quoted(first.name), quoted(row.name)));
}

Status SharedTensors::check(const Object& object) const {
  if (object.as_one || !object.elsewhere) return {};
  return Error(ErrorCode::kUnsupported,
               fmt::format("{} can't be replaced: another attribute holds the same tensor and would keep the "
                           "old one",
                           quoted(checkpoint_->tensors[object.row].name)));
}

bool SharedTensors::changes_as_one(Use use) const {
  if (objects_.empty()) return false;
  const auto found = objects_.find(checkpoint_->graph().resolve(use));
  return found != objects_.end() && found->second.as_one;
}

Status SharedTensors::separate(Use use) {
  auto& object = objects_.at(checkpoint_->graph().resolve(use));
  object.as_one = false;
  return check(object);
}

bool SharedTensors::same_view(const TensorInfo& a, const TensorInfo& b) const {
  return a.storage == b.storage && a.offset == b.offset && a.dtype == b.dtype &&
         std::ranges::equal(checkpoint_->shape(a), checkpoint_->shape(b)) &&
         checkpoint_->strides(a) == checkpoint_->strides(b);
}

}  // namespace ckpt
