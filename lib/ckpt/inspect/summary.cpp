// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/inspect/summary.h"

#include "ckpt/model/parameter_roles.h"

namespace ckpt {

Totals summarize(const Checkpoint& checkpoint) {
  Totals totals;
  std::vector<bool> counted(checkpoint.storages.size());
  const TensorInfo* entry = nullptr;  // parts count where the composite before them does
  for (const auto& tensor : checkpoint.tensors) {
    if (!tensor.has(kIsPart)) entry = &tensor;
    std::uint64_t bytes = 0;
    if (tensor.storage != kNoIndex && !counted[tensor.storage]) {
      counted[tensor.storage] = true;
      bytes = checkpoint.storages[tensor.storage].bytes;
    }
    auto& dtype = totals.by_dtype[dtype_info(entry->dtype).name];
    auto& section = totals.by_section[section_name(section_of(checkpoint, *entry))];
    totals.bytes += bytes;
    dtype.bytes += bytes;
    section.bytes += bytes;
    if (tensor.has(kIsPart)) continue;
    const auto numel = checkpoint.numel(tensor);
    for (auto* amount : {&dtype, &section}) {
      ++amount->tensors;
      amount->numel += numel;
    }
    ++totals.tensors;
    totals.numel += numel;
    totals.view_bytes += checkpoint.bytes(tensor);
    const auto role = role_of(checkpoint, tensor).kind;
    if (role == RoleKind::kParameter) ++totals.parameters;
    if (role == RoleKind::kBuffer) ++totals.buffers;
  }
  return totals;
}

TensorsByStorage tensors_by_storage(const Checkpoint& checkpoint) {
  TensorsByStorage out;
  out.first.assign(checkpoint.storages.size() + 1, 0);
  for (const auto& tensor : checkpoint.tensors) {
    if (tensor.storage != kNoIndex) ++out.first[tensor.storage + 1];
  }
  for (std::size_t i = 1; i < out.first.size(); ++i) out.first[i] += out.first[i - 1];
  out.order.resize(out.first.back());
  auto next = out.first;
  for (TensorId id = 0; id < checkpoint.tensors.size(); ++id) {
    const auto storage = checkpoint.tensors[id].storage;
    if (storage != kNoIndex) out.order[next[storage]++] = id;
  }
  return out;
}

}  // namespace ckpt
