// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_import.h"

#include <utility>

#include <fmt/format.h>

#include "ckpt/base/text.h"
#include "ckpt/compute/convert.h"
#include "ckpt/edit/storage_bytes.h"
#include "ckpt/model/byte_order.h"
#include "ckpt/model/dense_order.h"

namespace ckpt {

Shape strides_in_place_of(const Checkpoint& base, const TensorInfo& ours, Dtype dtype) {
  const bool keeps =
      ours.layout == TensorLayout::kStrided && ours.storage != kNoIndex && dtype_info(dtype).bits >= 8;
  auto strides = keeps ? base.strides(ours) : Shape{};
  if (!dense_order(base.shape(ours), strides)) strides.clear();
  return strides;
}

Result<TensorView> Importer::import(const Offered& offered, CastKey name, Dtype dtype, const Shape& strides,
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
    if (view.shape[axis] == 1) continue;  // may stand anywhere, and the key must not depend on where
    shape.push_back(view.shape[axis]);
    steps.push_back(old_strides[axis]);
  }
  const bool whole_items = dtype_info(tensor.dtype).bits >= 8;
  const bool swapped = has_turned_bytes(other, tensor);
  const bool as_they_lie =
      !whole_items || (dtype == tensor.dtype && swapped == takes_turned_bytes(base_, dtype) &&
                       !tensor.is_lazy() && is_c_order(shape, steps));
  const auto lazy = static_cast<std::uint8_t>(tensor.flags & (kConjugate | kNegative));
  const Key key{offered.offer->number,         tensor.storage, tensor.offset, shape,
                as_they_lie ? Shape{} : steps, dtype,          lazy,          std::string(device)};
  const auto known = imported_.find(key);
  if (known != imported_.end()) {
    casts_.share(known->second.cast, std::move(name));
    view.storage = known->second.storage;
    return view;
  }
  std::optional<std::size_t> cast;
  if (as_they_lie) {
    view.storage = base_.add_storage(moved(offered), dtype, device);
  } else {
    auto gathering = gather(offered, std::move(shape), std::move(steps), dtype, swapped);
    cast = casts_.watch(gathering, std::move(name));
    view.storage =
        base_.add_storage({gathered_part_, gathered_->add(std::move(gathering)), {}, {}}, dtype, device);
  }
  imported_.emplace(key, MergedStorage{view.storage, cast});
  return view;
}

void Importer::finish(const std::vector<MergeSource>& sources) {
  for (const auto& source : sources) base_.parts.push_back({source.checkpoint->parts.front().source, {}, {}});
  base_.parts.push_back({gathered_, {}, {}});
}

Status Importer::check(const Offered& offered, Dtype dtype) const {
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

DataRef Importer::moved(const Offered& offered) const {
  const auto& other = offered.checkpoint();
  const auto& tensor = offered.tensor();
  const auto& storage = other.storages[tensor.storage];
  const auto begin = tensor.offset * dtype_info(tensor.dtype).item_size;
  DataRef data{
      first_part_ + offered.offer->number, {storage.extent.offset + begin, other.bytes(tensor)}, {}, {}};
  if (storage.has_crc32 && data.extent.size == storage.extent.size) data.crc32 = storage.crc32;
  return data;
}

Gather Importer::gather(const Offered& offered, Shape shape, Shape steps, Dtype dtype, bool swapped) const {
  const auto& other = offered.checkpoint();
  const auto& tensor = offered.tensor();
  return {other.parts.front().source,
          other.storages[tensor.storage].extent.offset,
          tensor.offset,
          std::move(shape),
          std::move(steps),
          tensor.dtype,
          dtype,
          swapped,
          lazy_bits_of(tensor),
          takes_turned_bytes(base_, dtype)};
}

}  // namespace ckpt
