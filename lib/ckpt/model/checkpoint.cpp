// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/model/checkpoint.h"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include <fmt/format.h>

#include "ckpt/base/checked_math.h"
#include "ckpt/base/text.h"
#include "ckpt/model/key_path.h"

namespace ckpt {
namespace {

constexpr auto kLargest = std::numeric_limits<std::uint64_t>::max();

std::string_view part_name(PartName part) {
  switch (part) {
    case PartName::kIndices: return "indices";
    case PartName::kValues: return "values";
    case PartName::kCompressedIndices: return "compressed_indices";
    case PartName::kPlainIndices: return "plain_indices";
    case PartName::kScales: return "scales";
    case PartName::kZeroPoints: return "zero_points";
    case PartName::kBuffer: return "buffer";
    case PartName::kSizes: return "sizes";
    case PartName::kStrides: return "strides";
    case PartName::kOffsets: return "offsets";
    case PartName::kArguments: return "args";
    case PartName::kState: return "state";
    case PartName::kKey: return "key";
  }
  return "part";
}

void append_attribute(std::string& path, std::string_view name) {
  std::string step;
  append_key_step(step, name);
  path += '@';
  path += step.starts_with('[') ? std::string_view(step).substr(1, step.size() - 2) : std::string_view(step);
}

}  // namespace

std::string_view tensor_layout_name(TensorLayout layout) {
  switch (layout) {
    case TensorLayout::kStrided: return "strided";
    case TensorLayout::kSparseCoo: return "sparse_coo";
    case TensorLayout::kSparseCompressed: return "sparse_compressed";
    case TensorLayout::kQuantized: return "quantized";
    case TensorLayout::kNested: return "nested";
    case TensorLayout::kMeta: return "meta";
    case TensorLayout::kWrapper: return "wrapper";
  }
  return "strided";
}

std::vector<std::int64_t> Checkpoint::strides(const TensorInfo& tensor) const {
  std::vector<std::int64_t> out;
  strides(tensor, out);
  return out;
}

void Checkpoint::strides(const TensorInfo& tensor, std::vector<std::int64_t>& out) const {
  const auto sizes = shape(tensor);
  if (!tensor.has(kContiguous)) {
    out.assign(sizes.data() + tensor.rank, sizes.data() + 2 * tensor.rank);
    return;
  }
  out.resize(tensor.rank);
  constexpr auto kLargestStride = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  std::uint64_t step = 1;
  for (std::size_t i = tensor.rank; i-- > 0;) {
    out[i] = static_cast<std::int64_t>(step);
    const auto size = static_cast<std::uint64_t>(std::max<std::int64_t>(sizes[i], 1));
    step = std::min(checked_multiply(step, size).value_or(kLargestStride), kLargestStride);
  }
}

std::uint64_t Checkpoint::numel(const TensorInfo& tensor) const {
  std::uint64_t count = 1;
  bool saturated = false;
  for (const auto size : shape(tensor)) {
    if (size == 0) return 0;
    const auto product = checked_multiply(count, static_cast<std::uint64_t>(size));
    saturated = saturated || !product;
    count = product.value_or(kLargest);
  }
  return saturated ? kLargest : count;
}

std::uint64_t Checkpoint::bytes(const TensorInfo& tensor) const {
  const auto& info = dtype_info(tensor.dtype);
  const auto count = numel(tensor);
  if (info.values_per_item > 1) return storage_bytes_of_packed(tensor);
  if (format == FormatId::kSafetensors && info.bits < 8)
    return checked_multiply(count, info.bits).value_or(kLargest) / 8;
  return checked_multiply(count, info.item_size).value_or(kLargest);
}

std::uint64_t Checkpoint::storage_bytes_of_packed(const TensorInfo& tensor) const {
  const auto per_item = static_cast<std::uint64_t>(dtype_info(tensor.dtype).values_per_item);
  const auto sizes = shape(tensor);
  if (sizes.empty()) return 1;
  const auto row = static_cast<std::uint64_t>(sizes.back());
  if (row == 0) return 0;
  return numel(tensor) / row * ((row + per_item - 1) / per_item);
}

Extent Checkpoint::view_extent(const TensorInfo& tensor) const {
  const auto item = static_cast<std::uint64_t>(dtype_info(tensor.dtype).item_size);
  if (tensor.storage == kNoIndex || numel(tensor) == 0) return {};
  if (dtype_info(tensor.dtype).values_per_item > 1) return {tensor.offset, storage_bytes_of_packed(tensor)};
  if (format == FormatId::kSafetensors) return {0, bytes(tensor)};
  if (tensor.has(kContiguous)) return {tensor.offset * item, numel(tensor) * item};
  std::uint64_t last = 0;
  const auto sizes = shape(tensor);
  const auto steps = strides(tensor);
  for (std::size_t i = 0; i < tensor.rank; ++i) {
    last += static_cast<std::uint64_t>(sizes[i] - 1) * static_cast<std::uint64_t>(steps[i]);
  }
  return {tensor.offset * item, (last + 1) * item};
}

std::string Checkpoint::path(PlaceId place) const {
  std::string out;
  append_path(out, place);
  return out;
}

std::vector<std::string> Checkpoint::paths_around(PlaceId place) const {
  std::unordered_set<PlaceId> around;
  for (auto above = places[place].parent; above != kNoIndex; above = places[above].parent)
    around.insert(above);
  std::vector<std::string> paths;
  for (PlaceId other = 0; other < places.size(); ++other) {
    const auto parent = places[other].parent;
    const bool stays = other == place || around.contains(other);
    if (parent != kNoIndex && around.contains(parent) && !stays) paths.push_back(path(other));
  }
  return paths;
}

void Checkpoint::append_path(std::string& out, PlaceId place) const {
  if (place == kNoIndex) return;
  const auto& last = places[place];
  if (last.parent == kNoIndex || places[last.parent].kind == StepKind::kRoot) return append_step(out, last);
  std::vector<PlaceId> chain;
  for (; place != kNoIndex && places[place].kind != StepKind::kRoot; place = places[place].parent)
    chain.push_back(place);
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) append_step(out, places[*at]);
}

void Checkpoint::append_step(std::string& out, const Place& step) const {
  switch (step.kind) {
    case StepKind::kRoot: break;
    case StepKind::kItem: {
      const auto& keys = graph_of(step);
      if (const auto view = keys.string_view(step.step)) {
        append_key_step(out, *view);
      } else if (const auto text = keys.string(step.step)) {
        append_key_step(out, *text);
      } else {
        out += '{' + python_repr(keys, step.step) + '}';
      }
      break;
    }
    case StepKind::kIndex:
      if (step.document > 0 && out.empty()) {
        out += fmt::format("CONSTANTS.c{}", step.step);  // as the code calls it
      } else {
        out += fmt::format("[{}]", step.step);
      }
      break;
    case StepKind::kAttribute: append_attribute(out, graph_of(step).string(step.step).value_or("?")); break;
    case StepKind::kPart: {
      const auto part = static_cast<PartName>(step.step & 0xFFU);
      out += fmt::format("<{}>", part_name(part));
      if (part == PartName::kArguments) out += fmt::format("[{}]", step.step >> 8U);
      break;
    }
    case StepKind::kName: append_key_step(out, tensors[step.step].name); break;
  }
}

bool Checkpoint::is_optimizer_place(PlaceId place) const {
  // mappings are in the order of their places
  const auto found =
      std::lower_bound(mappings.begin(), mappings.end(), place,
                       [](const Mapping& mapping, PlaceId wanted) { return mapping.place < wanted; });
  return found != mappings.end() && found->place == place && found->is_optimizer;
}

std::string Checkpoint::original_name(std::uint32_t state_dict, std::uint32_t entry) const {
  const auto& item = state_dicts[state_dict].entries[entry];
  if (item.tensor != kNoIndex) return std::string(tensors[item.tensor].name);
  if (item.name != kNoIndex) return strings[item.name];
  return graph().string(item.key).value_or("");
}

std::string Checkpoint::name(std::uint32_t state_dict, std::uint32_t entry) const {
  const auto change = changes_.find({state_dict, entry});
  if (change != changes_.end() && !change->second.dropped) return std::string(change->second.name);
  return original_name(state_dict, entry);
}

void Checkpoint::rename(std::uint32_t state_dict, std::uint32_t entry, std::string name) {
  if (name == original_name(state_dict, entry)) {
    changes_.erase({state_dict, entry});
    return;
  }
  changes_.insert_or_assign({state_dict, entry}, {false, strings.emplace_back(std::move(name))});
}

void Checkpoint::drop(std::uint32_t state_dict, std::uint32_t entry) {
  changes_.insert_or_assign({state_dict, entry}, {true, {}});
}

const TensorInfo& Checkpoint::original(TensorId tensor) const {
  const auto found = originals_.find(tensor);
  return found == originals_.end() ? tensors[tensor] : found->second;
}

bool Checkpoint::tensors_change() const {
  return has_new_rows_ || storages_merged_ || has_new_root() || !unwrapped_.empty() ||
         !dropped_values_.empty() || !replaced_values_.empty() ||
         std::any_of(changes_.begin(), changes_.end(),
                     [](const auto& change) { return change.second.dropped; });
}

void Checkpoint::replace(std::uint32_t state_dict, std::uint32_t entry, const TensorView& view) {
  auto& item = state_dicts[state_dict].entries[entry];
  if (item.tensor == kNoIndex)
    item.tensor = add_row(strings.emplace_back(original_name(state_dict, entry)), state_dict);
  set_view(item.tensor, view, tensors[item.tensor].has(kInserted) ? kInserted : kReplaced);
}

void Checkpoint::insert(std::uint32_t state_dict, std::string name, const TensorView& view) {
  const auto row = add_row(strings.emplace_back(std::move(name)), state_dict);
  state_dicts[state_dict].entries.push_back({kNoUse, kNoUse, row});
  set_view(row, view, kInserted);
  if (view.requires_grad && is_differentiable(view.dtype)) tensors[row].flags |= kRequiresGrad;
}

TensorId Checkpoint::add_row(std::string_view name, std::uint32_t state_dict) {
  auto& row = tensors.emplace_back();
  row.name = name;
  row.state_dict = state_dict;
  return static_cast<TensorId>(tensors.size() - 1);
}

/// Parts of a composite that the row was stay in the table, as they stay what they were.
void Checkpoint::set_view(TensorId tensor, const TensorView& view, TensorFlag how) {
  auto& row = tensors[tensor];
  if (how == kReplaced) originals_.try_emplace(tensor, row);
  row.offset = view.offset;
  row.dimensions_at = dimensions.size();
  row.storage = view.storage;
  row.dtype = view.dtype;
  row.layout = TensorLayout::kStrided;
  row.rank = static_cast<std::uint8_t>(view.shape.size());
  row.parts = 0;
  auto gone = unsigned{kContiguous} | kConjugate | kNegative;
  if (!is_differentiable(view.dtype)) gone |= kRequiresGrad;
  row.flags = static_cast<std::uint16_t>((row.flags & ~gone) | how);
  if (view.made_anew) row.flags |= kMadeAnew;
  dimensions.insert(dimensions.end(), view.shape.begin(), view.shape.end());
  row.flags |= kContiguous;
  if (!view.strides.empty() && view.strides != strides(row)) {
    row.flags = static_cast<std::uint16_t>(row.flags & ~unsigned{kContiguous});
    dimensions.insert(dimensions.end(), view.strides.begin(), view.strides.end());
  }
  has_new_rows_ = true;
}

void Checkpoint::relocate(TensorId tensor, StorageId storage, std::uint64_t offset,
                          const std::vector<std::int64_t>& strides) {
  auto& row = tensors[tensor];
  if (!row.has(kReplaced) && !row.has(kInserted)) {
    originals_.try_emplace(tensor, row);
    row.flags |= kRelocated;
  }
  const auto sizes = shape(row);
  const std::vector<std::int64_t> kept(sizes.begin(), sizes.end());
  row.storage = storage;
  row.offset = offset;
  row.dimensions_at = dimensions.size();
  dimensions.insert(dimensions.end(), kept.begin(), kept.end());
  row.flags |= kContiguous;
  if (!strides.empty() && strides != this->strides(row)) {
    row.flags = static_cast<std::uint16_t>(row.flags & ~unsigned{kContiguous});
    dimensions.insert(dimensions.end(), strides.begin(), strides.end());
  }
  has_new_rows_ = true;
}

void Checkpoint::recast(TensorId tensor, Dtype dtype, StorageId storage, std::uint64_t offset,
                        const std::vector<std::int64_t>& strides) {
  relocate(tensor, storage, offset, strides);
  auto& row = tensors[tensor];
  row.dtype = dtype;
  if (!has_document() && !row.has(kInserted)) row.flags |= kReplaced;
}

void Checkpoint::resolve_lazy_bits(TensorId tensor) {
  auto& flags = tensors[tensor].flags;
  flags = static_cast<std::uint16_t>(flags & ~(unsigned{kConjugate} | kNegative));
}

void Checkpoint::merge_storages(const std::vector<StorageId>& twins) {
  for (StorageId id = 0; id < twins.size(); ++id) {
    if (twins[id] == id) continue;
    storages[id].same_as = twins[id];
    storages_merged_ = true;
  }
  for (auto& row : tensors) {
    if (row.storage != kNoIndex && row.storage < twins.size()) row.storage = twins[row.storage];
  }
}

void Checkpoint::set_device(StorageId storage, std::string_view device) {
  storages[storage].device = intern_device(device);
  devices_change_ = true;
}

TensorId Checkpoint::add_tensor(const TensorView& view) {
  const auto row = add_row({}, kNoIndex);
  set_view(row, view, kInserted);
  return row;
}

void Checkpoint::replace_value(Use use, PlainValue value) {
  replaced_values_.emplace_back(use, std::move(value));
}

StorageId Checkpoint::add_storage(DataRef data, Dtype dtype, std::string_view device) {
  Storage storage;
  storage.bytes = data.size();
  storage.record = static_cast<std::uint32_t>(added_data.size());
  storage.device = intern_device(device);
  storage.dtype = dtype;
  storage.untyped = dtype_info(dtype).storage_class.empty();
  storage.is_added = true;
  added_data.push_back(std::move(data));
  storages.push_back(storage);
  return static_cast<StorageId>(storages.size() - 1);
}

std::uint16_t Checkpoint::intern_device(std::string_view tag) {
  const auto found = std::find(devices.begin(), devices.end(), tag);
  if (found != devices.end()) return static_cast<std::uint16_t>(found - devices.begin());
  if (devices.size() >= 0xFFFF) return 0;  // hostile: one tag a storage; the tag is shown only
  devices.emplace_back(tag);
  return static_cast<std::uint16_t>(devices.size() - 1);
}

bool Checkpoint::is_dropped(std::uint32_t state_dict, std::uint32_t entry) const {
  const auto change = changes_.find({state_dict, entry});
  return change != changes_.end() && change->second.dropped;
}

}  // namespace ckpt
